//! Lists the files of `recipes/` for `src/recipe/builtin.rs`: a recipe is built in by lying there.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("recipes");
    println!("cargo:rerun-if-changed={}", folder.display());
    let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut recipes: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml")).collect();
    recipes.sort();
    let mut list = String::from("[\n");
    for file in recipes {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(list, "    ({name:?}, include_str!({:?})),", file.display().to_string());
    }
    list.push_str("]\n");
    fs::write(PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("builtin.rs"), list)
}
