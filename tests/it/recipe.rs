//! `mlxport recipe`: a recipe is learned from a conversion and converts the same; what cannot be said, bad input, the list.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::schemas::conforms;
use crate::support::{code, converted, fixture, mlxport, stderr, tensors};

/// Runs `recipe infer` on a pair.
fn infer(release: &Path, mlx: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let paths = [release, mlx, Path::new("--out"), out];
    let mut args: Vec<&std::ffi::OsStr> = vec!["recipe".as_ref(), "infer".as_ref()];
    args.extend(paths.iter().map(|path| path.as_os_str()));
    args.extend(more.iter().map(std::ffi::OsStr::new));
    mlxport(args)
}

fn release() -> PathBuf {
    fixture("tiny-base").join("checkpoint")
}

fn json(output: &std::process::Output) -> Value {
    let object = serde_json::from_slice(&output.stdout).expect("one object");
    conforms("recipe-infer", &object);
    object
}

#[test]
fn a_learned_recipe_converts_as_the_example_was_converted() {
    let dir = converted("tiny-base", "split");
    let (model, out) = (dir.path().join("model"), dir.path().join("learned.toml"));
    let output = infer(&release(), &model, &out, &["--json"]);
    assert_eq!(code(&output), 0, "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    let said = json(&output);
    assert_eq!((said["verdict"].as_str(), said["out"].as_str()), (Some("identical"), out.to_str()));
    let again = dir.path().join("again");
    let source = release();
    let args = ["convert".as_ref(), source.as_os_str(), again.as_os_str(), "--recipe".as_ref(), out.as_os_str()];
    let output = mlxport(args);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let (wanted, made) =
        (tensors::read(&model.join("model.safetensors")), tensors::read(&again.join("model.safetensors")));
    assert_eq!(wanted.len(), made.len());
    for (name, tensor) in &wanted {
        assert!(made[name].shape == tensor.shape && made[name].bytes == tensor.bytes, "{name}");
    }
}

#[test]
fn a_recipe_takes_the_place_of_nothing_unless_told() {
    let dir = converted("tiny-base", "split");
    let (model, out) = (dir.path().join("model"), dir.path().join("mine.toml"));
    std::fs::write(&out, "mine").expect("written");
    let output = infer(&release(), &model, &out, &[]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("mine.toml is there already"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&out).expect("readable"), "mine");
    let output = infer(&release(), &model, &out, &["--force"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("bit by bit"), "{output:?}");
    assert!(std::fs::read_to_string(&out).expect("readable").contains("[table]"));
    let files: Vec<_> =
        std::fs::read_dir(dir.path()).expect("readable").filter_map(Result::ok).map(|f| f.file_name()).collect();
    assert_eq!(files.len(), 2, "nothing is left over: {files:?}");
}

#[test]
fn what_cannot_be_said_is_exit_one_and_bad_input_two() {
    let dir = converted("tiny-base", "split");
    let (model, out) = (dir.path().join("model"), dir.path().join("learned.toml"));
    let weights = model.join("model.safetensors");
    let mut all = tensors::read(&weights);
    let key = all.keys().find(|key| key.ends_with("q_proj.weight")).expect("a query").clone();
    all.get_mut(&key).expect("there").swap_rows(0, 1);
    tensors::write(&weights, &all);
    let output = infer(&release(), &model, &out, &["--json"]);
    assert_eq!((code(&output), out.exists()), (1, false), "{}", stderr(&output));
    let said = json(&output);
    assert!(
        said["unsaid"].as_array().is_some_and(|list| list.iter().any(|one| one["key"] == key.as_str())),
        "{said:#}"
    );
    let gone = dir.path().join("gone");
    for (mlx, target) in [(&gone, &out), (&model, &gone.join("learned.toml"))] {
        let output = infer(&release(), mlx, target, &["--json"]);
        assert_eq!(
            (code(&output), target.exists()),
            if mlx == &gone { (2, false) } else { (1, false) },
            "{}",
            stderr(&output)
        );
        json(&output);
    }
    let three = mlxport(["recipe", "infer", "a", "b", "c", "--out", "x.toml"]);
    assert_eq!(code(&three), 2);
    let directory = infer(&release(), &model, dir.path(), &["--force"]);
    assert_eq!(code(&directory), 2);
    assert!(stderr(&directory).contains("is a directory"), "{}", stderr(&directory));
}

#[test]
fn built_in_recipes_are_listed_with_what_they_are_for() {
    let output = mlxport(["recipe", "list", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let list: Value = serde_json::from_slice(&output.stdout).expect("one object");
    conforms("recipe-list", &list);
    let output = mlxport(["recipe", "list"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for recipe in list["recipes"].as_array().expect("a list") {
        let name = recipe["name"].as_str().expect("a name");
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
    assert!(list["recipes"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "deepseek-ocr")));
}
