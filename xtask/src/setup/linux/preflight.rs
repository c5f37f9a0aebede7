//! What this machine must have, checked before anything is fetched; all that is missing is said at once.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::cargo;

/// What setup uses of this machine.
#[derive(Debug)]
pub struct Host {
    /// Target triple, such as `x86_64-unknown-linux-gnu`.
    pub triple: String,
    /// The C++ compiler: `$CXX`, or g++, or c++.
    pub compiler: String,
    /// The first line of `--version`.
    pub compiler_version: String,
    /// The Python that has pip: `$PYTHON`, or python3.
    pub python: String,
}

#[cfg(test)]
impl Host {
    pub fn for_tests() -> Self {
        Self {
            triple: "x86_64-unknown-linux-gnu".into(),
            compiler: "g++".into(),
            compiler_version: "g++ 12".into(),
            python: "python3".into(),
        }
    }
}

/// Hosts that MLX's wheels are built for.
const SUPPORTED: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// pip learnt `manylinux_2_35`-like tags in 20.3.
const OLDEST_PIP: (u32, u32) = (20, 3);
/// The wheels ask for it.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Looks at the machine.
///
/// # Errors
/// One message that lists everything missing, with what to install.
pub fn check(root: &Path) -> Result<Host> {
    let triple = cargo::host_triple()?;
    let mut missing = Vec::new();
    if !SUPPORTED.contains(&triple.as_str()) {
        missing.push(format!(
            "a supported platform: this is {triple}, MLX is published for {} (and macOS, where no setup is needed)",
            SUPPORTED.join(" and ")
        ));
    }
    if !is_usable_path(root) {
        let path = root.display();
        missing.push(format!(
            "a project folder whose path is UTF-8 without ':' and '$' (the loader splits at them): {path}"
        ));
    }
    let compiler = find_compiler(&mut missing);
    let python = find_python(&mut missing);
    match (compiler, python) {
        (Some((compiler, compiler_version)), Some(python)) if missing.is_empty() => {
            Ok(Host { triple, compiler, compiler_version, python })
        }
        _ => bail!("{}", report(&missing)),
    }
}

/// Whether the dynamic loader takes the path as it is in a RUNPATH.
fn is_usable_path(root: &Path) -> bool {
    root.to_str().is_some_and(|text| !text.contains([':', '$']))
}

fn report(missing: &[String]) -> String {
    let list: String = missing.iter().map(|item| format!("\n  - {item}")).collect();
    format!(
        "setup cannot begin; this machine lacks:{list}\n\
         On Debian or Ubuntu: apt-get install g++ python3 python3-pip\n\
         On Fedora:           dnf install gcc-c++ python3 python3-pip\n\
         (CXX and PYTHON name another compiler or interpreter.)"
    )
}

fn find_compiler(missing: &mut Vec<String>) -> Option<(String, String)> {
    let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
    let candidates = named.map_or_else(|| vec!["g++".into(), "c++".into()], |name| vec![name]);
    let found = candidates.iter().find_map(|name| Some((name.clone(), first_line(name, &["--version"])?)));
    let Some((compiler, version)) = found else {
        missing.push(format!("a C++ compiler ({} not found)", candidates.join(", ")));
        return None;
    };
    if let Err(said) = compiles_cpp20(&compiler) {
        missing.push(format!("a C++20 compiler with its standard library ({version}: {said}); g++ 11 or newer does"));
    }
    Some((compiler, version))
}

/// Whether the standard library's headers are there and new enough.
fn compiles_cpp20(compiler: &str) -> Result<(), String> {
    let program = b"#include <span>\n#include <version>\n#include <string>\nint main() {}\n";
    let arguments = ["-std=c++20", "-x", "c++", "-fsyntax-only", "-"];
    let mut child = Command::new(compiler)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // A compiler that ends early closes the pipe; its exit status says why.
        let _ = input.write_all(program);
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().next().unwrap_or("it failed").to_owned())
}

fn find_python(missing: &mut Vec<String>) -> Option<String> {
    let python = std::env::var("PYTHON").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "python3".into());
    let Some(version) = first_line(&python, &["--version"]) else {
        missing.push(format!("Python 3 ({python} not found)"));
        return None;
    };
    if version_of(&version, "Python ").is_none_or(|found| found < OLDEST_PYTHON) {
        missing.push(format!("Python 3.10 or newer (found {version})"));
    }
    match first_line(&python, &["-m", "pip", "--version"]) {
        None => missing.push(format!("pip for {version} (`{python} -m pip` fails)")),
        Some(pip) if version_of(&pip, "pip ").is_none_or(|found| found < OLDEST_PIP) => {
            missing.push(format!("pip 20.3 or newer (found {pip})"));
        }
        Some(_) => {}
    }
    Some(python)
}

/// The first two numbers after `prefix`: `pip 23.2.1 from …` → (23, 2).
fn version_of(line: &str, prefix: &str) -> Option<(u32, u32)> {
    let mut numbers = line.strip_prefix(prefix)?.split(|character: char| !character.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0)))
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(version_of("pip 23.2.1 from x", "pip "), Some((23, 2)));
        assert_eq!(version_of("pip 9.0 from x", "pip "), Some((9, 0)));
        assert_eq!(version_of("Python 3.11.7", "Python "), Some((3, 11)));
        assert_eq!(version_of("Python 3.9.1", "Python ").map(|found| found < OLDEST_PYTHON), Some(true));
        assert_eq!(version_of("nonsense", "pip "), None);
    }

    #[test]
    fn the_report_lists_everything_with_what_to_install() {
        let text = report(&["a C++ compiler".into(), "pip".into()]);
        assert!(text.contains("  - a C++ compiler\n  - pip\n"));
        assert!(text.contains("apt-get install g++") && text.contains("dnf install gcc-c++"));
    }

    #[test]
    fn paths_that_the_loader_would_split_are_refused() {
        assert!(is_usable_path(Path::new("/a folder/with, comma")));
        assert!(!is_usable_path(Path::new("/a:b")));
        assert!(!is_usable_path(Path::new("/a$b")));
    }

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(first_line("mlxport-no-such-program", &["--version"]), None);
        assert!(compiles_cpp20("mlxport-no-such-program").is_err());
    }
}
