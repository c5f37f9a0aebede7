//! `libmlxc.so`: mlx-c's C++ files, the BLAS forwarders and the clock, linked against the wheel's libmlx.so.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use super::layout::{BUILD, LIBRARY, Layout, WHEELS};
use super::preflight::Host;
use super::source::Source;
use super::wheels::OPENBLAS;

/// Our own few C++ files, by name. They are part of the stamp.
pub const NATIVE_FILES: [(&str, &str); 5] = [
    ("compat.hpp", include_str!("native/compat.hpp")),
    ("arm_fp16.h", include_str!("native/arm_fp16.h")),
    ("arm_bf16.h", include_str!("native/arm_bf16.h")),
    ("blas.cpp", include_str!("native/blas.cpp")),
    ("clock.cpp", include_str!("native/clock.cpp")),
];

/// Writes our own files into `folder` and returns it; off ARM its `arm_*.h` must be found there. On ARM they must not.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_native_files(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in NATIVE_FILES {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(folder.to_path_buf())
}

/// Compiles and links `lib/libmlxc.so` in the layout's work folder.
///
/// # Errors
/// The compiler's own message for the first file that fails.
pub fn library(layout: &Layout, host: &Host, source: &Source) -> Result<()> {
    let work = layout.work();
    let native = write_native_files(&work.join(BUILD).join("native"))?;
    let objects = work.join(BUILD).join("objects");
    fs::create_dir_all(&objects).with_context(|| objects.display().to_string())?;

    let mut files = source.files("cpp")?;
    files.push(native.join("clock.cpp"));
    files.push(native.join("blas.cpp"));
    let include = work.join(WHEELS).join("mlx/include");
    // MLX's headers are most of every file: they are read once. The compiler finds the outcome by its name.
    let compat = native.join("compat.hpp");
    let compile = |of_mlx_c: bool| compiler(host, of_mlx_c.then_some([&*include, &source.mlx_c, &native]));
    let headers = compat.with_extension("hpp.gch");
    finish(compile(true).args(["-x", "c++-header"]).arg(&compat).arg("-o").arg(headers))?;
    let object_files = in_parallel(&files, |file| {
        let name = file.file_stem().context("a source file has no name")?;
        let object = objects.join(name).with_extension("o");
        let of_mlx_c = file.starts_with(&source.mlx_c);
        let mut compile = compile(of_mlx_c);
        if of_mlx_c {
            compile.arg("-include").arg(&compat);
        }
        finish(compile.arg("-c").arg(file).arg("-o").arg(&object))?;
        Ok(object)
    })?;
    link(layout, host, &object_files)
}

/// The compiler with what every file is compiled with; `folders` of headers, MLX's first, for the files of mlx-c.
fn compiler(host: &Host, folders: Option<[&Path; 3]>) -> Command {
    let mut compile = Command::new(&host.compiler);
    // Every function hands over to libmlx.so at once: there is little to optimise.
    compile.args(["-std=c++20", "-O1", "-fPIC", "-w"]);
    if let Some([mlx, mlx_c, native]) = folders {
        compile.arg("-isystem").arg(mlx).arg("-I").arg(mlx_c);
        if !host.triple.starts_with("aarch64") {
            compile.arg("-I").arg(native);
        }
    }
    compile
}

fn link(layout: &Layout, host: &Host, objects: &[PathBuf]) -> Result<()> {
    let work = layout.work();
    let folder = work.join(LIBRARY);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut link = Command::new(&host.compiler);
    link.arg("-shared").args(objects);
    link.arg("-L").arg(work.join(WHEELS).join("mlx/lib")).arg("-lmlx");
    link.arg(work.join(WHEELS).join(OPENBLAS));
    // Paths of the final place, not of the work folder. -Xlinker and not -Wl, because a path may hold a comma.
    for option in linker_options(&layout.runtime()) {
        link.arg("-Xlinker").arg(option);
    }
    finish(link.arg("-o").arg(folder.join("libmlxc.so")))
}

fn linker_options(runtime: &Path) -> Vec<OsString> {
    let wheels = runtime.join(WHEELS);
    let mut search = wheels.join("mlx/lib").into_os_string();
    search.push(":");
    search.push(wheels.join(OPENBLAS).with_file_name(""));
    vec![
        "-soname".into(),
        runtime.join(LIBRARY).join("libmlxc.so").into(),
        "--enable-new-dtags".into(),
        "-rpath".into(),
        search,
    ]
}

/// Runs `work` on every item, as many at a time as there are processors; results in order, the first error if any.
fn in_parallel<T: Send>(items: &[PathBuf], work: impl Fn(&Path) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some((at, item)) = take(&next, items) {
                    let result = work(item);
                    if result.is_err() {
                        // No new file is begun after a failure.
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    if let Ok(mut all) = results.lock() {
                        all.push((at, result));
                    }
                }
            });
        }
    });
    let mut all = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

fn take<'a>(next: &AtomicUsize, items: &'a [PathBuf]) -> Option<(usize, &'a Path)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, items.get(at)?.as_path()))
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("could not run {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // The first errors are the cause; what follows is their echo.
        let head: Vec<_> = said.lines().take(30).collect();
        bail!("{command:?} failed ({}):\n{}", output.status, head.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_names_its_final_place() {
        let options = linker_options(Path::new("/p/.mlx/cpu"));
        assert!(options.contains(&"/p/.mlx/cpu/lib/libmlxc.so".into()));
        let search = options.last().expect("has options");
        assert_eq!(search, "/p/.mlx/cpu/wheels/mlx/lib:/p/.mlx/cpu/wheels/scipy_openblas32/lib/");
    }

    #[test]
    fn parallel_results_keep_their_order() {
        let items: Vec<_> = (0..50).map(|number| PathBuf::from(number.to_string())).collect();
        let names = in_parallel(&items, |item| Ok(item.to_path_buf())).expect("no failure");
        assert_eq!(names, items);
    }

    #[test]
    fn a_failure_in_one_thread_is_the_result() {
        let items: Vec<_> = (0..50).map(|number| PathBuf::from(number.to_string())).collect();
        let outcome = in_parallel(&items, |item| {
            anyhow::ensure!(item != Path::new("7"), "seven");
            Ok(())
        });
        assert_eq!(outcome.expect_err("seven fails").to_string(), "seven");
    }
}
