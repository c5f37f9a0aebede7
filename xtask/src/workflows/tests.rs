//! What CI runs in this repository is clean, and each rule finds what it is there for.

use super::*;
use crate::cargo;

fn text(path: &str) -> String {
    std::fs::read_to_string(cargo::workspace_root().join(path)).expect(path)
}

fn found(path: &str, text: &str) -> Vec<String> {
    lint(&cargo::workspace_root(), path, text)
}

fn files() -> Vec<String> {
    let mut files = vec!["action.yml".to_owned()];
    for folder in [".github/workflows", "examples/ci"] {
        let listed = std::fs::read_dir(cargo::workspace_root().join(folder)).expect(folder);
        let names = listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        files.extend(names.map(|name| format!("{folder}/{name}")).filter(|path| Kind::of(path).is_some()));
    }
    files
}

#[test]
fn what_ci_runs_is_clean() {
    let files = files();
    assert!(files.len() >= 5, "{files:?}");
    for path in &files {
        assert_eq!(found(path, &text(path)), Vec::<String>::new(), "{path}");
    }
    for needed in [
        ".github/workflows/ci.yml",
        ".github/workflows/release.yml",
        "examples/ci/atlas-nightly.yml",
        "examples/ci/linux-cpu.yml",
        "examples/ci/macos-metal.yml",
        "examples/ci/gitlab-ci.yml",
    ] {
        assert!(files.iter().any(|path| path == needed), "{needed} is not there");
    }
    assert!(text(".github/workflows/ci.yml").contains("uses: ./"), "this project uses its own action");
}

/// The action with one thing changed must be refused with these words.
fn refused(path: &str, from: &str, to: &str, said: &str) {
    let sound = text(path);
    assert!(sound.contains(from), "{path} holds {from:?}");
    let found = found(path, &sound.replacen(from, to, 1));
    assert!(found.iter().any(|line| line.contains(said)), "{from:?} → {to:?}: expected {said:?} in {found:#?}");
}

#[test]
fn faults_of_the_action_are_found() {
    for (from, to, said) in [
        ("      shell: bash\n", "", "without `shell: bash`"),
        ("\"$MLXPORT\" convert \"$RELEASE\"", "\"$MLXPORT\" convert ${{ inputs.release }}", "must come through `env`"),
        ("RELEASE: ${{ inputs.release }}", "RELEASE: ${{ inputs.source }}", "there is no such input"),
        ("LAYOUT: ${{ inputs.layout }}", "LAYOUT: mlx-vlm", "input layout: no one uses it"),
        ("steps.setup.outputs.binary", "steps.build.outputs.binary", "no step has the id `build`"),
        ("@5a3ec84eff668545956fd18022155c47e93e2684", "@v4", "is not pinned"),
        ("    default: mlx-vlm\n", "    defalt: mlx-vlm\n", "must be required or have a default"),
        ("using: composite", "using: docker", "is not composite"),
        ("      working-directory:", "      workdir:", "nobody reads the key `workdir`"),
        ("runner.os", "machine.os", "no known context"),
        ("inputs:", "inputs: [", "line"),
    ] {
        refused("action.yml", from, to, said);
    }
}

#[test]
fn faults_of_workflows_are_found() {
    let own = ".github/workflows/ci.yml";
    for (from, to, said) in [
        ("          release: fixtures/data/tiny-small/checkpoint", "          releas: x", "declares no input `releas`"),
        ("fixture: fixtures/data/tiny-small\n", "fixture: fixtures/data/absent\n", "fixtures/data/absent is not there"),
        ("permissions:\n  contents: read\n", "", "`permissions` is missing"),
        ("    timeout-minutes: 30\n", "", "`timeout-minutes` is missing"),
        ("@11bd71901bbe5b1630ceea73d27597364c9af683", "@main", "is not pinned"),
        ("name: ci\n", "name: ci\nname: ci\n", "duplicate"),
    ] {
        refused(own, from, to, said);
    }
    let gitlab = "examples/ci/gitlab-ci.yml";
    refused(gitlab, "  stage: parity\n", "  stage: deploy\n", "its stage is none of");
    refused(gitlab, "    when: always\n", "", "not kept after a failure");
    refused(gitlab, "  script:", "  scripts:", "`script` is no list of commands");
}
