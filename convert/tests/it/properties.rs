//! Properties of whole layouts and whole conversions: what is undone is as before, a concat is what a concat is, any window in any
//! pieces is the window, and nothing depends on the order in which a release happens to hold its tensors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mlxport_convert::manifest::MANIFEST_FILE;
use mlxport_convert::transforms::{Assembly, Axis, View};
use mlxport_convert::{Manifest, Request, WriteOptions, prepare};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::{Map, json};

use crate::support::{
    Stored, load_directory,
    memory::{Memory, read, read_as, value, whole},
    names_in, raw_safetensors,
    tiny::Tiny,
};

/// The elements of a [`Memory`]'s tensor 0, in order.
fn original(count: u64) -> Vec<f32> {
    (0..count).map(|i| value(0, i)).collect()
}

/// A window on a tensor: along each axis a first step, a step width and a number of steps; then the axes in some order.
#[derive(Debug, Clone)]
struct Window {
    shape: Vec<u64>,
    /// First, width, count.
    steps: Vec<(u64, u64, u64)>,
    order: Vec<usize>,
}

impl Window {
    /// As the transforms read it.
    fn view(&self, key: usize) -> View {
        let mut view = whole(key, &self.shape);
        for (axis, &(first, width, count)) in view.axes.iter_mut().zip(&self.steps) {
            view.start += first * axis.stride;
            *axis = Axis { len: count, stride: axis.stride * width };
        }
        view.permuted(&self.order)
    }

    /// Worked out index by index.
    fn by_hand(&self, key: usize) -> Vec<f32> {
        let counts: Vec<u64> = self.order.iter().map(|&axis| self.steps[axis].2).collect();
        let flat = |mut rest: u64| {
            let mut index = vec![0; self.shape.len()];
            for (at, &count) in counts.iter().enumerate().rev() {
                let (first, width, _) = self.steps[self.order[at]];
                index[self.order[at]] = first + width * (rest % count);
                rest /= count;
            }
            index.iter().zip(&self.shape).fold(0, |flat, (i, len)| flat * len + i)
        };
        (0..counts.iter().product()).map(|at| value(key, flat(at))).collect()
    }
}

fn windows() -> impl Strategy<Value = Window> {
    let axis = (1_u64..9).prop_flat_map(|len| {
        (0..len, 1_u64..4).prop_flat_map(move |(first, width)| {
            let most = (len - first).div_ceil(width);
            (Just(len), Just(first), Just(width), 1..=most)
        })
    });
    prop::collection::vec(axis, 1..5).prop_flat_map(|axes| {
        let order: Vec<usize> = (0..axes.len()).collect();
        let shape = axes.iter().map(|axis| axis.0).collect();
        let steps = axes.iter().map(|axis| (axis.1, axis.2, axis.3)).collect();
        Just(order).prop_shuffle().prop_map(move |order| {
            let (shape, steps): (Vec<_>, Vec<_>) = (Vec::clone(&shape), Vec::clone(&steps));
            Window { shape, steps, order }
        })
    })
}

/// Tensors of one shape but for the joined axis: shape of the first, axis, every length along it.
fn joinable() -> impl Strategy<Value = (Vec<u64>, usize, Vec<u64>)> {
    prop::collection::vec(1_u64..5, 1..5).prop_flat_map(|shape| {
        let rank = shape.len();
        (Just(shape), 0..rank, prop::collection::vec(0_u64..5, 1..5))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_kernel_laid_out_for_mlx_and_back_is_the_kernel(
        shape in prop::collection::vec(1_u64..6, 4), piece in 1_usize..99, block in 4_usize..400,
    ) {
        let there = read(&Memory::new(std::slice::from_ref(&shape)), &Assembly::of(whole(0, &shape).conv_ohwi()), piece, block);
        let ohwi = [shape[0], shape[2], shape[3], shape[1]];
        let back = Assembly::of(whole(0, &ohwi).permuted(&[0, 3, 1, 2]));
        prop_assert_eq!(read(&Memory::of(&ohwi, &there), &back, piece, block), original(there.len() as u64));
    }

    #[test]
    fn a_transpose_undoes_itself(rows in 1_u64..20, columns in 1_u64..20, piece in 1_usize..99, block in 4_usize..400) {
        let memory = Memory::new(&[vec![rows, columns]]);
        let once = read(&memory, &Assembly::of(whole(0, &[rows, columns]).permuted(&[1, 0])), piece, block);
        let twice = Assembly::of(whole(0, &[columns, rows]).permuted(&[1, 0]));
        prop_assert_eq!(read(&Memory::of(&[columns, rows], &once), &twice, piece, block), original(rows * columns));
    }

    #[test]
    fn unfold_columns_go_back_with_channels_and_pixels_exchanged(
        rows in 1_u64..5, channels in 1_u64..7, area in 1_u64..10, piece in 1_usize..99, block in 4_usize..400,
    ) {
        let shape = [rows, channels * area];
        let view = |area| Assembly::of(whole(0, &shape).unfold_columns(area));
        let there = read(&Memory::new(&[shape.to_vec()]), &view(area), piece, block);
        let back = read(&Memory::of(&shape, &there), &view(channels), piece, block);
        prop_assert_eq!(back, original(rows * channels * area));
    }

    #[test]
    fn a_split_concatenated_is_the_packed_tensor(
        parts in 1_u64..5, rows in 1_u64..5, inner in prop::collection::vec(1_u64..5, 0..3), piece in 1_usize..99,
    ) {
        let shape: Vec<u64> = [parts * rows].into_iter().chain(inner).collect();
        let views = (0..parts).map(|at| whole(0, &shape).part(at, parts)).collect();
        let found = read(&Memory::new(std::slice::from_ref(&shape)), &Assembly::concat(views, &shape, 0), piece, 64);
        prop_assert_eq!(found, original(shape.iter().product()));
    }

    #[test]
    fn each_part_of_a_stack_is_what_was_stacked(
        count in 1_usize..6, shape in prop::collection::vec(1_u64..5, 0..4), piece in 1_usize..99,
    ) {
        let memory = Memory::new(&vec![shape.clone(); count]);
        let views: Vec<View> = (0..count).map(|t| whole(t, &shape)).collect();
        let stacked = read(&memory, &Assembly::sequence(views), piece, 64);
        let stack_shape: Vec<u64> = [count as u64].into_iter().chain(shape.iter().copied()).collect();
        let stack = Memory::of(&stack_shape, &stacked);
        for t in 0..count {
            let part = Assembly::of(whole(0, &stack_shape).part(t as u64, count as u64));
            let expected: Vec<f32> = (0..shape.iter().product()).map(|i| value(t, i)).collect();
            prop_assert_eq!(read(&stack, &part, piece, 64), expected);
        }
    }

    #[test]
    fn a_concat_along_any_axis_is_a_concat((shape, axis, lengths) in joinable(), piece in 1_usize..99, block in 4_usize..400) {
        let shapes: Vec<Vec<u64>> = lengths.iter().map(|&length| {
            let mut own = shape.clone();
            own[axis] = length;
            own
        }).collect();
        let views = shapes.iter().enumerate().map(|(t, shape)| whole(t, shape)).collect();
        let found = read(&Memory::new(&shapes), &Assembly::concat(views, &shapes[0], axis), piece, block);
        let mut joined = shape;
        joined[axis] = lengths.iter().sum();
        let expected: Vec<f32> = (0..joined.iter().product()).map(|mut rest: u64| {
            let mut index = vec![0; joined.len()];
            for at in (0..joined.len()).rev() {
                index[at] = rest % joined[at];
                rest /= joined[at];
            }
            let mut t = 0;
            while index[axis] >= lengths[t] {
                index[axis] -= lengths[t];
                t += 1;
            }
            value(t, index.iter().zip(&shapes[t]).fold(0, |flat, (i, len)| flat * len + i))
        }).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_windows_in_any_pieces_are_the_windows(
        windows in prop::collection::vec(windows(), 1..4), piece in 1_usize..300, block in 4_usize..600,
    ) {
        let shapes: Vec<Vec<u64>> = windows.iter().map(|window| window.shape.clone()).collect();
        let memory = Memory::new(&shapes);
        let views = windows.iter().enumerate().map(|(t, window)| window.view(t)).collect();
        let assembly = Assembly::sequence(views);
        let expected: Vec<f32> = windows.iter().enumerate().flat_map(|(t, window)| window.by_hand(t)).collect();
        prop_assert_eq!(read(&memory, &assembly, piece, block), expected);
        let at_once = read_as(&memory, &assembly, Dtype::BF16, assembly.len() as usize, 1 << 20);
        prop_assert_eq!(read_as(&memory, &assembly, Dtype::BF16, piece, block), at_once);
    }
}

/// How a release happens to be stored.
#[derive(Debug, Clone)]
struct Storage {
    /// The order of the tensors' bytes, and of the keys in the headers: places in the sorted list.
    bytes: Vec<usize>,
    keys: Vec<usize>,
    /// Which file each tensor of `bytes` goes to.
    files: Vec<usize>,
    indexed: bool,
}

fn storages(count: usize) -> impl Strategy<Value = Storage> {
    let order = || Just((0..count).collect::<Vec<_>>()).prop_shuffle();
    let files = (1_usize..5).prop_flat_map(move |files| prop::collection::vec(0..files, count));
    (order(), order(), files, any::<bool>()).prop_map(|(bytes, keys, files, indexed)| Storage {
        bytes,
        keys,
        files,
        indexed,
    })
}

impl Storage {
    fn write(&self, directory: &Path, config: &str, tensors: &[Stored]) {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join("config.json"), config).expect("config");
        let mut map = Map::new();
        for file in 0..=*self.files.iter().max().expect("there are tensors") {
            let own: Vec<usize> = self.bytes.iter().copied().filter(|&at| self.files[at] == file).collect();
            if own.is_empty() {
                continue;
            }
            let name = format!("{}-{file}.safetensors", 9 - file);
            map.extend(own.iter().map(|&at| (tensors[at].0.clone(), json!(name))));
            fs::write(directory.join(name), self.file(&own, tensors)).expect("a shard");
        }
        if self.indexed {
            let index = json!({ "metadata": {}, "weight_map": map }).to_string();
            fs::write(directory.join("model.safetensors.index.json"), index).expect("index");
        }
    }

    /// One file: bytes in the one order, keys in the other.
    fn file(&self, own: &[usize], tensors: &[Stored]) -> Vec<u8> {
        let (mut data, mut offsets) = (Vec::new(), BTreeMap::new());
        for &at in own {
            let begin = data.len();
            data.extend_from_slice(&tensors[at].3);
            offsets.insert(at, [begin, data.len()]);
        }
        let mut header = Map::new();
        for at in self.keys.iter().filter(|at| offsets.contains_key(at)) {
            let (key, dtype, shape, _) = &tensors[*at];
            let entry = json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": offsets[at] });
            header.insert(key.clone(), entry);
        }
        raw_safetensors(&serde_json::Value::Object(header).to_string(), &data)
    }
}

/// Every file but the manifest, and the manifest less what it says of the source's files.
fn written(directory: &Path) -> (BTreeMap<String, Vec<u8>>, Manifest) {
    let names = names_in(directory).into_iter().filter(|name| name != MANIFEST_FILE);
    let files = names.map(|name| (name.clone(), fs::read(directory.join(name)).expect("readable"))).collect();
    let mut manifest = Manifest::read(directory).expect("just written");
    manifest.source_files.clear();
    (files, manifest)
}

fn options(target: &Path, shard: u64, memory: usize) -> WriteOptions {
    WriteOptions { max_shard_byte_len: shard, memory_byte_len: memory, ..WriteOptions::to(target) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_release_converts_the_same_however_it_is_stored(
        storage in storages(Tiny::default().shapes().len()),
        shard in prop_oneof![2_000_u64..40_000, Just(u64::MAX)], memory in 0_usize..(64 << 20),
    ) {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        let tiny = Tiny::default();
        tiny.write(&at("plain"));
        storage.write(&at("other"), &tiny.config().to_string(), &tiny.tensors());
        let convert = |from: &str, to: &str, shard, memory| {
            let request = Request { source: at(from), ..Request::default() };
            prepare(&request).and_then(|prepared| prepared.write(&options(&at(to), shard, memory))).expect("converts");
        };
        convert("plain", "expected", shard, WriteOptions::to("").memory_byte_len);
        convert("other", "found", shard, memory);
        prop_assert_eq!(written(&at("found")), written(&at("expected")));
        // Where files are cut changes no tensor.
        convert("other", "whole", u64::MAX, memory);
        prop_assert_eq!(load_directory(&at("whole")), load_directory(&at("found")));
    }
}
