//! Our reader of PyTorch's archives held against another one that was written without it: candle's.
//!
//! candle reads pickle protocol 2 and counts a tensor's offset in bytes where PyTorch counts elements, so the files here are of that protocol
//! and their tensors begin where a storage begins.

use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};
use mlxport_convert::checkpoint::{Checkpoint, TensorSource};

use crate::pickle::read_all;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pickle").join(name)
}

/// The elements of a tensor as little-endian float32.
fn float32_bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("float32");
    flat.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn candle_reads_the_same_tensors() {
    for (name, state_dict) in [
        ("toy.bin", None),
        ("pytorch_model-00001-of-00002.bin", None),
        ("pytorch_model-00002-of-00002.bin", None),
        ("met/ddp.bin", None),
        ("met/ema.pth", Some("ema")),
        ("met/loss.pth", Some("model_state_dict")),
    ] {
        let ours = Checkpoint::scan_named(&data(name), state_dict).expect("a file").checkpoint;
        let theirs = PthTensors::new(data(name), state_dict).expect("candle reads it");
        assert_eq!(ours.tensors().len(), theirs.tensor_infos().len(), "{name}");
        let mut compared = 0;
        for (key, (_, shape, bytes)) in read_all(&ours) {
            let info = theirs.tensor_infos().get(&key).unwrap_or_else(|| panic!("{name}: candle has no {key}"));
            assert_eq!(info.layout.dims(), shape, "{name}: {key}");
            if info.dtype == DType::F32 && info.layout.is_contiguous() && info.layout.start_offset() == 0 {
                let tensor = theirs.get(&key).expect("candle reads it").expect("it is there");
                assert_eq!(float32_bytes(&tensor), bytes, "{name}: {key}");
                compared += 1;
            }
        }
        assert!(compared > 0, "{name}: no tensor was compared");
    }
}
