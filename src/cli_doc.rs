//! docs/cli.md: every command's help, as clap prints it. The test holds the file to the code.

use clap::{Command, CommandFactory as _};

const WRITTEN: &str = include_str!("../docs/cli.md");
const HEAD: &str = "# Every command and every flag\n\n\
    This page is made from the program's own help. After a change run `UPDATE_CLI_DOC=1 cargo test --bin mlxport cli_doc`.\n\n\
    Every command exits with 0 for a pass, 1 for a divergence or a finding, 2 for bad usage, input or environment (nothing compared is 2), and 3\n\
    when a resource ran out. `ocr` exits with 130 when it is interrupted. With `--json` a command prints exactly one object on stdout\n\
    ([schemas](../schemas)).\n";

/// One section per command that people may call, subcommands after their parent.
fn sections(command: &mut Command, path: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## `{path}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    let children = command.get_subcommands_mut().filter(|child| !child.is_hide_set() && child.get_name() != "help");
    for child in children {
        let path = format!("{path} {}", child.get_name());
        sections(child, &path, text);
    }
}

#[test]
fn the_page_says_what_the_program_says() {
    let mut command = crate::Cli::command().term_width(100);
    command.build();
    let mut text = HEAD.to_owned();
    sections(&mut command, "mlxport", &mut text);
    if std::env::var_os("UPDATE_CLI_DOC").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md"), &text).expect("docs/cli.md can be written");
        return;
    }
    assert!(
        text == WRITTEN,
        "docs/cli.md is not what the program says: run UPDATE_CLI_DOC=1 cargo test --bin mlxport cli_doc"
    );
}
