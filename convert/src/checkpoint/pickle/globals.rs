//! What the names in a pickle say: which storages and dtypes they are, and which of them no checkpoint has.
//!
//! Nothing is ever imported or called: a name is a label on an object.

use safetensors::Dtype;

/// Modules whose names only a file made to do harm mentions.
const HARMFUL_MODULES: &[&str] = &[
    "commands",
    "ctypes",
    "importlib",
    "nt",
    "os",
    "os.path",
    "pip",
    "posix",
    "pty",
    "pydoc",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "timeit",
    "webbrowser",
];
/// Harmful names of Python's own.
const HARMFUL_BUILTINS: &[&str] = &["__import__", "apply", "breakpoint", "compile", "eval", "exec", "execfile", "open"];

/// Whether only a file made to do harm names it: whoever loaded such a file with Python would run it. Here it runs no more than any
/// other name does, but its weights deserve no trust.
pub fn is_harmful(module: &str, name: &str) -> bool {
    match module {
        "builtins" | "__builtin__" => HARMFUL_BUILTINS.contains(&name),
        "torch" => matches!(name, "load" | "hub.load"),
        "torch.hub" | "torch.serialization" => matches!(name, "load" | "load_state_dict_from_url"),
        _ => HARMFUL_MODULES.contains(&module),
    }
}

/// Bytes of an element of a typed storage class of `torch`; of an untyped one, 1.
pub fn storage_element_byte_len(name: &str) -> Option<u64> {
    Some(match name {
        "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => 1,
        "QInt32Storage" => 4,
        "ComplexDoubleStorage" => 16,
        _ => storage(name)?.bitsize() as u64 / 8,
    })
}

/// The element type of a typed storage class of `torch`.
pub fn storage(name: &str) -> Option<Dtype> {
    Some(match name {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        "ComplexFloatStorage" => Dtype::C64,
        _ => return None,
    })
}

/// The element type of a dtype of `torch`.
pub fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::BOOL,
        "complex64" => Dtype::C64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        _ => return None,
    })
}
