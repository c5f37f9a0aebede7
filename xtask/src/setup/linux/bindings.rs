//! `bindings.rs`: mlx-c's headers as Rust declarations, as mlx-sys's own build script would write them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{BINDINGS, BUILD};
use super::preflight::Host;
use super::source::Source;
use super::{compile, wheels};

/// Writes `bindings/bindings.rs` under `work`.
///
/// # Errors
/// When libclang does not load or rejects a header.
pub fn write(work: &Path, host: &Host, source: &Source) -> Result<()> {
    point_at_libclang(&wheels::libclang_folder(work));
    let arguments = clang_arguments(work, host, source)?;
    let mut builder = bindgen::Builder::default()
        .clang_args(&arguments)
        // mlx-sys leaves these out too: rustc knows them.
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        .formatter(bindgen::Formatter::None);
    if !is_arm(host) {
        builder = builder.blocklist_type("float16_t|bfloat16_t").raw_line(HALF_TYPES);
    }
    for header in source.files("h")? {
        builder = builder.header(header.to_string_lossy());
    }
    let file = work.join(BINDINGS).join("bindings.rs");
    std::fs::create_dir_all(work.join(BINDINGS)).context("could not make the bindings' folder")?;
    let bindings = builder.generate().context("bindgen rejected mlx-c's headers")?;
    bindings.write_to_file(&file).with_context(|| file.display().to_string())
}

/// As bindgen writes `__fp16` and `__bf16` on ARM; mlx-rs reads `.0` of the first.
const HALF_TYPES: &str = "#[repr(transparent)] #[derive(Debug, Default, Copy, Clone)] pub struct float16_t(pub u16);\n\
     pub type bfloat16_t = u16;";

fn is_arm(host: &Host) -> bool {
    host.triple.starts_with("aarch64")
}

fn clang_arguments(work: &Path, host: &Host, source: &Source) -> Result<Vec<String>> {
    let mut arguments = vec![format!("-I{}", source.mlx_c.display())];
    if !is_arm(host) {
        let native = compile::write_native_files(&work.join(BUILD).join("native"))?;
        arguments.push(format!("-I{}", native.display()));
        arguments.push("-D__ARM_FEATURE_FP16_SCALAR_ARITHMETIC=1".into());
        arguments.push("-D__ARM_FEATURE_BF16=1".into());
    }
    // The wheel has libclang but not clang's own headers (stddef.h and the like); the compiler's do.
    let output = Command::new(&host.compiler)
        .arg("-print-file-name=include")
        .output()
        .with_context(|| format!("could not run {}", host.compiler))?;
    let include = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if Path::new(&include).is_absolute() {
        arguments.push(format!("-isystem{include}"));
    }
    Ok(arguments)
}

#[allow(
    unsafe_code,
    reason = "bindgen takes libclang's folder from the environment only, and no other thread runs at this point"
)]
fn point_at_libclang(folder: &Path) {
    // SAFETY: setup's compile threads have been joined; nothing reads the environment meanwhile.
    unsafe { std::env::set_var("LIBCLANG_PATH", folder) };
}
