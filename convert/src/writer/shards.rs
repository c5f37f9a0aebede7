//! Which tensor goes into which file, where, and the files' headers.

use serde_json::{Map, Value, json};

use crate::plan::Plan;

/// 5 GB, the size at which releases are usually split.
pub const DEFAULT_MAX_SHARD_BYTE_LEN: u64 = 5_000_000_000;
/// Headers are padded so that the tensors begin at a multiple of this.
const ALIGN: usize = 8;

/// One file to write.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name.
    pub file_name: String,
    /// Indices into the plan's tensors, in file order.
    pub tensors: Vec<usize>,
    /// Length field and padded JSON.
    pub header: Vec<u8>,
    /// The whole file's length.
    pub byte_len: u64,
}

/// Distributes the plan's tensors over files of at most `max_byte_len` bytes of tensors each. The order is fixed (wider elements first,
/// so that every tensor is aligned to its element; then by name) and does not depend on the source's order.
pub fn arrange(plan: &Plan, max_byte_len: u64) -> Vec<Shard> {
    let mut order: Vec<usize> = (0..plan.tensors.len()).collect();
    let rank = |at: &usize| {
        let tensor = &plan.tensors[*at];
        (std::cmp::Reverse(tensor.dtype.bitsize()), &tensor.name)
    };
    order.sort_by(|a, b| rank(a).cmp(&rank(b)));
    let mut groups: Vec<Vec<usize>> = vec![Vec::new()];
    let mut filled = 0_u64;
    for at in order {
        let byte_len = plan.tensors[at].byte_len();
        let last = groups.len() - 1;
        if filled.saturating_add(byte_len) > max_byte_len && !groups[last].is_empty() {
            groups.push(vec![at]);
            filled = byte_len;
        } else {
            groups[last].push(at);
            filled += byte_len;
        }
    }
    let count = groups.len();
    groups
        .into_iter()
        .enumerate()
        .map(|(k, tensors)| {
            let header = header(plan, &tensors);
            let data: u64 = tensors.iter().map(|&at| plan.tensors[at].byte_len()).sum();
            let byte_len = header.len() as u64 + data;
            Shard { file_name: file_name(k + 1, count), tensors, header, byte_len }
        })
        .collect()
}

fn file_name(number: usize, count: usize) -> String {
    if count == 1 { "model.safetensors".to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") }
}

fn header(plan: &Plan, tensors: &[usize]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "mlx" }));
    let mut at = 0;
    for &index in tensors {
        let tensor = &plan.tensors[index];
        let end = at + tensor.byte_len();
        let entry = json!({
            "dtype": tensor.dtype.to_string(),
            "shape": tensor.shape,
            "data_offsets": [at, end],
        });
        entries.insert(tensor.name.clone(), entry);
        at = end;
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(ALIGN), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    header
}
