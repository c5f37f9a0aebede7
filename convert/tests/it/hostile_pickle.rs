//! PyTorch files made to do harm: each is told what is wrong with it, nothing runs, and neither time nor memory grows without bound.

use std::fs;

use mlxport_convert::checkpoint::{Checkpoint, Scan, TensorSource};
use mlxport_convert::{Violation, ViolationKind};

use crate::support::pickled::{archive, checkpoint, dict, int, made, pickle, tensor, text, tuple};

fn scan(bytes: &[u8]) -> Scan {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("x.pt");
    fs::write(&path, bytes).expect("writes");
    Checkpoint::scan(&path).expect("a file")
}

#[track_caller]
fn told(bytes: &[u8], kind: ViolationKind, what: &str) -> Vec<Violation> {
    let violations = scan(bytes).violations;
    let is_it = |v: &Violation| v.kind == kind && v.to_string().contains(what);
    assert!(violations.iter().any(is_it), "no {kind} with {what:?} in {violations:#?}");
    violations
}

/// A checkpoint whose pickle is this object.
fn object(object: Vec<u8>) -> Vec<u8> {
    checkpoint(&pickle(object), &[0; 16])
}

/// A checkpoint of one tensor of a storage of four float32.
fn one(elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    object(dict(&[("w", tensor("0", elements, offset, shape, strides))]))
}

#[test]
fn a_sound_one_passes() {
    let scan = scan(&one(4, 1, &[3], &[1]));
    assert_eq!(scan.violations, []);
    assert_eq!(scan.checkpoint.tensors()["w"].shape, [3]);
}

#[test]
fn tensors_stay_inside_their_storage() {
    let (header, short) = (ViolationKind::BadHeader, ViolationKind::TruncatedFile);
    told(&one(4, 1, &[4], &[1]), header, "elements inside the storage's 4");
    told(&one(4, 0, &[2, 2], &[3, 1]), header, "elements inside");
    told(&one(4, 0, &[2], &[i64::MAX]), header, "elements inside");
    told(&one(4, 0, &[4], &[i64::MAX]), header, "beyond counting");
    told(&one(4, i64::MAX, &[2], &[i64::MAX]), header, "elements inside");
    told(&one(4, 5, &[0], &[1]), header, "elements inside");
    told(&one(4, 0, &[1 << 40, 1 << 40], &[0, 0]), header, "a tensor of at most");
    told(&one(4, 0, &[1 << 41], &[0]), header, "a tensor of at most");
    told(&one(4, 0, &[4], &[1, 1]), header, "1 strides");
    told(&one(5, 0, &[4], &[1]), short, "storage 0 of 20 bytes");
    told(&one(i64::MAX, 0, &[4], &[1]), short, "can be counted");
    told(&object(dict(&[("w", tensor("../0", 4, 0, &[4], &[1]))])), short, "no such entry");
    for (offset, shape, strides) in [(-1, 4, 1), (0, -4, 1), (0, 4, -1)] {
        told(&one(4, offset, &[shape], &[strides]), ViolationKind::Unsupported, "from 0 on");
    }
}

#[test]
fn nothing_is_called_and_every_foreign_name_is_listed() {
    let touch = || text("touch x");
    let bad = object(dict(&[
        ("a", made("os", "system", &[touch()])),
        ("b", made("builtins", "eval", &[touch()])),
        ("c", made("torch", "load", &[touch()])),
    ]));
    let violations = told(&bad, ViolationKind::Unsupported, "os.system");
    assert_eq!(violations.len(), 3);
    told(&bad, ViolationKind::Unsupported, "builtins.eval");
    told(&bad, ViolationKind::Unsupported, "torch.load");
}

#[test]
fn the_stream_is_bounded_before_it_is_run() {
    let refuse = |stream: Vec<u8>, what: &str| {
        told(&checkpoint(&stream, &[]), ViolationKind::Unsupported, what);
    };
    let stream = |inner: &[u8]| [&[0x80, 2], inner, b"."].concat();
    // However deep, and however often an object is named: references are numbers.
    refuse(stream(&[&b"N"[..], &[0x85].repeat(100_000)].concat()), "no tensor in it");
    refuse(stream(&[b"]".repeat(100_000), b"a".repeat(99_999)].concat()), "no tensor in it");
    refuse(stream(&[b"}".repeat(1000), b"b".repeat(999)].concat()), "no tensor in it");
    let double: Vec<u8> = (0..40_u8).flat_map(|k| [b'h', k, b'h', k, 0x86, b'q', k + 1]).collect();
    refuse(stream(&[&b"Nq\0"[..], &double].concat()), "one object left");
    refuse(stream(b"]q\0h\0a"), "no tensor in it");
    // Millions of small objects.
    refuse(stream(&[b"(".to_vec(), b"]".repeat(3_000_000), b"t".to_vec()].concat()), "bytes together");
    refuse(stream(&[b"(".to_vec(), b"N".repeat(17_000_000), b"t".to_vec()].concat()), "bytes together");
    refuse(stream(&[b"X\xff\xff\xff\xff".to_vec(), b"abc".to_vec()].concat()), "more bytes");
    refuse(stream(b"]h\x07a"), "memo place 7");
    refuse(stream(b"]r\xff\xff\xff\xff"), "a memo of at most");
    refuse(stream(b"X\x02\0\0\0\xff\xfe"), "UTF-8");
    refuse(stream(b"R"), "an object on the stack");
    refuse(stream(b"(R"), "a mark");
    refuse(stream(b"t"), "a mark on the stack");
    refuse(stream(b"NN"), "one object left");
    refuse(stream(b""), "an object on the stack");
    refuse(vec![0x80, 2], "more bytes of the pickle");
    refuse(stream(b"N.N"), "nothing after");
    refuse(stream(b"NNs"), "an object on the stack");
    refuse(stream(b"NNNs"), "a dict, list or object to fill");
    refuse(stream(b"}(Nu"), "as many values as keys");
    refuse(stream(b"X\x01\0\0\0aQ"), "a bare storage");
    refuse(stream(b"}0"), "an object on the stack");
    refuse(stream(b"(S'ls'\nios\nsystem\n"), "os.system");
    refuse(stream(b"X\x02\0\0\0os\x8c\x06system\x93"), "os.system");
    refuse(stream(&[b"c".to_vec(), b"a".repeat(10_000)].concat()), "a name of at most");
    refuse(stream(b"ccollections\nOrderedDict\n]\x85R"), "no tensor in it");
    refuse(stream(b"\x82\x01"), "EXT");
    refuse(stream(b"\x97"), "a buffer outside");
    refuse(stream(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"), "more bytes");
    refuse([&[0x80, 6][..], b"}."].concat(), "a pickle protocol up to 5");
}

/// Integers beyond a machine word, and bytes.
#[test]
fn what_is_no_tensor_is_passed_over_with_a_note() {
    let long = [vec![0x8a, 255], vec![0xff; 255]].concat();
    let short_negative = vec![0x8a, 5, 0, 0, 0, 0, 0x80];
    let bytes = b"U\x03abc".to_vec();
    let entries =
        [("long", long), ("negative", short_negative), ("bytes", bytes), ("fine", tensor("0", 4, 0, &[4], &[1]))];
    let scan = scan(&object(dict(&entries)));
    assert_eq!(scan.violations, []);
    assert!(
        scan.notes[0].contains("long (an integer beyond 64 bits), negative (the integer -549755813888)"),
        "{:?}",
        scan.notes
    );
    assert_eq!(scan.checkpoint.tensors().len(), 1);
}

/// A list that is shared and filled later is one object in Python; a copy would be another.
#[test]
fn a_shared_object_that_changed_is_one_object() {
    let inner = [dict(&[]), b"q\x01".to_vec()].concat();
    let late = [b"}q\x01(".to_vec(), text("w"), tensor("0", 4, 0, &[4], &[1]), b"u".to_vec()].concat();
    let again = scan(&object(dict(&[("model", late), ("state_dict", b"h\x01".to_vec())])));
    assert_eq!((again.violations.len(), again.checkpoint.tensors().len()), (0, 1));
    let fill_borrowed = [inner, b"h\x01".to_vec(), text("w"), tensor("0", 4, 0, &[4], &[1]), b"s0".to_vec()].concat();
    assert_eq!(scan(&object(fill_borrowed)).checkpoint.tensors().len(), 1, "one dict, however it is named");
}

#[test]
fn wrong_wrappings_are_no_tensors() {
    let wrong = [
        ("few", made("torch._utils", "_rebuild_tensor_v2", &[int(1)])),
        ("none", made("torch._utils", "_rebuild_parameter", &[])),
        ("type", made("torch._tensor", "_rebuild_from_type_v2", &[text("x"), text("y"), tuple(&[])])),
        ("sparse", made("torch._utils", "_rebuild_sparse_tensor", &[text("x"), tuple(&[])])),
        ("storage", tuple(&[text("storage")])),
    ];
    let scan = scan(&object(dict(&wrong)));
    // The last one has no form of a tensor: it is passed over.
    assert_eq!(scan.violations.len(), wrong.len() - 1, "{:#?}", scan.violations);
    let twice = dict(&[("w", tensor("0", 4, 0, &[4], &[1])), ("w", tensor("0", 4, 0, &[1], &[1]))]);
    told(&object(twice), ViolationKind::DuplicateKey, "the key again");
}

#[test]
fn archives_are_what_torch_save_writes() {
    let sound = pickle(dict(&[("w", tensor("0", 4, 0, &[4], &[1]))]));
    let with = |extra: &[(&str, &[u8])]| {
        let entries: Vec<(&str, &[u8])> = [("x/data.pkl", sound.as_slice()), ("x/data/0", &[0; 16])]
            .into_iter()
            .chain(extra.iter().copied())
            .collect();
        archive(&entries)
    };
    assert_eq!(scan(&with(&[])).violations, []);
    told(&with(&[("x/byteorder", b"big")]), ViolationKind::Unsupported, "expected little, found big");
    told(&with(&[("y/data.pkl", &sound)]), ViolationKind::BadHeader, "one data.pkl");
    told(&archive(&[("x/data/0", &[0; 16])]), ViolationKind::BadHeader, "one data.pkl");
    for name in ["../x/data/1", "/x/data/1", "x\\data", "x//y", "x/./y"] {
        told(&with(&[(name, b"")]), ViolationKind::BadPath, "inside the archive's folder");
    }
    told(&with(&[("x/code/a.py", b"")]), ViolationKind::Unsupported, "TorchScript");
    told(&archive(&[("x/data.pkl", &vec![b'N'; (32 << 20) + 1])]), ViolationKind::BadHeader, "at most 33554432 bytes");
    let mut appended = with(&[]);
    appended.push(0);
    told(&appended, ViolationKind::TruncatedFile, "cut off or was appended to");
}

/// Entries said to be compressed, encrypted, twice there, elsewhere or without end.
#[test]
fn the_directory_is_not_trusted() {
    let sound = checkpoint(&pickle(dict(&[("w", tensor("0", 4, 0, &[4], &[1]))])), &[0; 16]);
    let end = sound.len() - 22;
    let start = u32::from_le_bytes(sound[end + 16..end + 20].try_into().expect("4 bytes")) as usize;
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = sound.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    told(&changed(start + 10, &[8, 0]), ViolationKind::Unsupported, "a compressed one");
    told(&changed(start + 8, &[1, 0]), ViolationKind::Unsupported, "an encrypted one");
    told(&changed(start + 20, &u32::MAX.to_le_bytes()), ViolationKind::TruncatedFile, "inside the file");
    told(&changed(start + 20, &0x7fff_ffff_u32.to_le_bytes()), ViolationKind::TruncatedFile, "inside the file");
    told(&changed(start + 42, &0x7fff_ffff_u32.to_le_bytes()), ViolationKind::BadHeader, "archive");
    told(&changed(end + 8, &[0xfe, 0xff, 0xfe, 0xff]), ViolationKind::BadHeader, "");
    told(&changed(end + 8, &[0xff; 12]), ViolationKind::BadHeader, "zip64");
    told(&changed(end + 12, &[0xff, 0xff, 0xff, 0x7f]), ViolationKind::BadHeader, "a directory of at most");
    // The storage's name becomes the pickle's: one entry twice.
    let twice = archive(&[("x/data.pkl", b"N."), ("x/data.pkX", b"N.")]);
    let at = twice.windows(3).enumerate().filter(|(_, w)| *w == b"pkX").map(|(at, _)| at);
    let mut changed = twice.clone();
    at.for_each(|at| changed[at + 2] = b'l');
    told(&changed, ViolationKind::DuplicateKey, "each entry of the archive once");
    // A checksum that is not the pickle's.
    told(&changed_pickle(&sound), ViolationKind::BadHeader, "a sound zip archive");
}

/// The archive with the first byte of its pickle's key changed.
fn changed_pickle(sound: &[u8]) -> Vec<u8> {
    let mut changed = sound.to_vec();
    let at = sound.windows(6).position(|w| w == b"X\x01\0\0\0w").expect("the key") + 5;
    changed[at] = b'v';
    changed
}
