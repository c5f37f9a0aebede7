//! `mlxport compare`: a recording judged by another. Alike passes, whatever differs is named, and what cannot be judged ends with 2.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::{
    FIXTURES, code, fixture, mlxport, schemas, stderr,
    tensors::{self, Owned, Tensors},
};

/// A copy of a small fixture (without its checkpoint) that a test may change.
struct Copy {
    dir: tempfile::TempDir,
}

impl Copy {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file in ["manifest.json", "inputs.safetensors", "activations.safetensors", "truth.safetensors"] {
            let source = fixture(name).join(file);
            if source.exists() {
                std::fs::copy(source, dir.path().join(file)).expect("copied");
            }
        }
        Self { dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("manifest.json")).expect("there")).expect("JSON")
    }

    /// Changes the manifest, and the points in it.
    fn tell(self, change: impl FnOnce(&mut Value)) -> Self {
        let mut manifest = self.manifest();
        change(&mut manifest);
        std::fs::write(self.path("manifest.json"), manifest.to_string()).expect("written");
        self
    }

    /// Changes the tensors of one file.
    fn edit(self, file: &str, change: impl FnOnce(&mut Tensors)) -> Self {
        let mut all = tensors::read(&self.path(file));
        change(&mut all);
        tensors::write(&self.path(file), &all);
        self
    }

    /// Changes the recorded values of a point.
    fn values(self, point: &str, change: impl FnOnce(&mut Owned)) -> Self {
        let name = self.tensor(point);
        self.edit("activations.safetensors", |all| change(all.get_mut(&name).expect("recorded")))
    }

    /// The name under which the values of a point (`model.norm#0.out`) are stored.
    fn tensor(&self, point: &str) -> String {
        let manifest = self.manifest();
        let of = |p: &&Value| format!("{}#{}.{}", text(&p["point"]), p["call"], text(&p["kind"])) == point;
        let found = manifest["order"].as_array().expect("points").iter().find(of);
        text(&found.unwrap_or_else(|| panic!("{point} is recorded"))["tensor"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Runs the command; its exit code, record (or error object) and what it said to people.
fn compare(reference: &Path, candidate: &Path, more: &[&str]) -> (i32, Value, String) {
    let mut args = vec!["compare".as_ref(), reference.as_os_str(), candidate.as_os_str(), "--json".as_ref()];
    args.extend(more.iter().map(std::ffi::OsStr::new));
    let output = mlxport(args);
    let record: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    schemas::conforms(if record["error"].is_null() { "record" } else { "error" }, &record);
    (code(&output), record, stderr(&output))
}

fn floats(tensor: &mut Owned, change: impl Fn(usize, f32) -> f32) {
    for (index, bytes) in tensor.bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *bytes = change(index, f32::from_le_bytes(*bytes)).to_le_bytes();
    }
}

#[test]
fn a_recording_is_within_its_own_floors_and_every_point_is_compared() {
    for name in FIXTURES {
        let (code, record, said) = compare(&fixture(name), &fixture(name), &[]);
        assert_eq!(code, 0, "{name}: {said}");
        let summary = &record["summary"];
        assert_eq!(summary["cumulative"]["compared"], summary["points_recorded"], "{name}");
        assert_eq!(record["not_compared"], json!([]), "{name}");
        assert!(summary["worst"][0]["ratio"].as_f64().is_some_and(|ratio| ratio <= 0.2501), "{name}");
    }
}

#[test]
fn a_perturbed_tensor_is_named_with_where_the_error_grows_and_what_it_is() {
    let point = "model.sam_model.neck.2#0.out";
    let candidate = Copy::of("tiny-grid").values(point, |tensor| {
        floats(tensor, |index, value| if index % 2 == 0 { value * 1.001 } else { value });
    });
    let reports = candidate.path("report");
    let reference = fixture("tiny-grid");
    let (code, record, said) = compare(&reference, candidate.dir.path(), &["--report", &reports.to_string_lossy()]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(record["summary"]["first_divergence"]["point"], "model.sam_model.neck.2");
    assert!(record["summary"]["first_divergence"]["error"].as_f64().is_some_and(|e| (5e-4..1e-3).contains(&e)));
    let taps = record["taps"].as_array().expect("taps");
    let first = taps.iter().find(|tap| tap["status"] == "fail").expect("failed");
    assert_eq!(first["growth"]["from"]["point"], "model.sam_model.neck.2", "its own recorded input reached it");
    assert!(first["growth"]["factor"].as_f64().is_some_and(|factor| factor > 100.0));
    for part in ["FAIL tiny-grid", "First divergence", "Where the error grows", "Look at model.sam_model.neck.2 first"]
    {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    for file in ["record.json", "report.md", "report.txt"] {
        assert!(reports.join(file).is_file(), "{file}");
    }
}

#[test]
fn a_usual_cause_is_tried_on_the_recorded_tensors() {
    let candidate =
        Copy::of("tiny-grid").values("model.projector.layers#0.out", |tensor| floats(tensor, |_, value| value * 1.5));
    let (code, record, said) = compare(&fixture("tiny-grid"), candidate.dir.path(), &[]);
    assert_eq!((code, &record["summary"]["first_divergence"]["point"]), (1, &json!("model.projector.layers")));
    assert!(said.contains("likely cause: a constant factor"), "{said}");
}

#[test]
fn shapes_and_dtypes_that_differ_fail() {
    let candidate =
        Copy::of("tiny-small").values("model.norm#0.out", |tensor| tensor.shape.swap(1, 2)).tell(|manifest| {
            for point in manifest["order"].as_array_mut().expect("points") {
                if point["tensor"] == "model.norm#0.out" {
                    point["shape"].as_array_mut().expect("axes").swap(1, 2);
                }
            }
        });
    let (code, record, _) = compare(&fixture("tiny-small"), candidate.dir.path(), &[]);
    assert_eq!((code, &record["summary"]["first_divergence"]["failure"]["why"]), (1, &json!("shape_mismatch")));

    let name = "lm_head#0.out";
    let candidate = Copy::of("tiny-small").values(name, |tensor| {
        tensor.dtype = Dtype::F64;
        let wide =
            tensor.bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)).to_le_bytes());
        tensor.bytes = wide.collect::<Vec<_>>().concat();
    });
    let candidate = candidate.tell(|manifest| {
        for point in manifest["order"].as_array_mut().expect("points") {
            if point["tensor"] == name {
                point["dtype"] = json!("torch.float64");
            }
        }
    });
    let (code, record, _) = compare(&fixture("tiny-small"), candidate.dir.path(), &[]);
    assert_eq!((code, &record["summary"]["first_divergence"]["failure"]["why"]), (1, &json!("dtype_mismatch")));
}

#[test]
fn experts_are_sets_and_their_rows_may_stand_in_another_order() {
    let gate = "model.layers.2.mlp.gate#0.out";
    let swap_choices = |tensor: &mut Owned| {
        let k = tensor.shape[1];
        let (words, _) = tensor.bytes.as_chunks_mut::<8>();
        words.chunks_exact_mut(k).for_each(<[_]>::reverse);
    };
    let candidate = rows_reversed(Copy::of("tiny-grid").values(gate, swap_choices), "model.layers.2.mlp.experts.2");
    let (code, record, said) = compare(&fixture("tiny-grid"), candidate.dir.path(), &[]);
    assert_eq!((code, &record["not_compared"]), (0, &json!([])), "{said}");

    let another = Copy::of("tiny-grid").values(gate, |tensor| {
        let (words, _) = tensor.bytes.as_chunks_mut::<8>();
        let taken: Vec<i64> = words[..2].iter().map(|word| i64::from_le_bytes(*word)).collect();
        let free = (0..).find(|expert| !taken.contains(expert)).expect("more experts than are chosen");
        words[0] = free.to_le_bytes();
    });
    let (code, record, _) = compare(&fixture("tiny-grid"), another.dir.path(), &[]);
    let failed: Vec<_> = record["taps"].as_array().expect("taps").iter().filter(|t| t["status"] == "fail").collect();
    assert_eq!((code, failed.len(), &failed[0]["failure"]["why"]), (1, 1, &json!("choices_differ")));
}

/// Puts the rows of everything that an expert was given and returned in the reverse order.
fn rows_reversed(copy: Copy, expert: &str) -> Copy {
    let inside = |name: &str| name.starts_with(&format!("{expert}#")) || name.starts_with(&format!("{expert}."));
    let names: Vec<String> = {
        let manifest = copy.manifest();
        let points = manifest["order"].as_array().expect("points");
        let mut names: Vec<_> =
            points.iter().filter(|p| inside(&text(&p["point"]))).map(|p| text(&p["tensor"])).collect();
        names.sort();
        names.dedup();
        names
    };
    assert!(names.iter().all(|name| inside(name)), "nobody else shares the expert's tensors: {names:?}");
    copy.edit("activations.safetensors", |all| {
        for name in &names {
            let tensor = all.get_mut(name).expect("recorded");
            assert!(tensor.shape[0] > 1, "{name}: one row has one order");
            let width = tensor.bytes.len() / tensor.shape[0];
            tensor.bytes = tensor.bytes.chunks_exact(width).rev().flatten().copied().collect();
        }
    })
}

/// A fixture without modules' inputs and experts, every `stride`-th element of which is kept.
fn sampled(name: &str, stride: usize) -> Copy {
    let copy = Copy::of(name);
    let (whole, mut samples, mut points) =
        (tensors::read(&copy.path("activations.safetensors")), Tensors::new(), Vec::new());
    for point in copy.manifest()["order"].as_array().expect("points") {
        let id = format!("{}#{}.out", text(&point["point"]), point["call"]);
        if point["kind"] != "out" || point["dtype"] != "torch.float32" || id.contains(".experts.") {
            continue;
        }
        let mut kept = whole[&text(&point["tensor"])].clone();
        kept.bytes = kept.bytes.as_chunks::<4>().0.iter().step_by(stride).flatten().copied().collect();
        kept.shape = vec![kept.bytes.len() / 4];
        samples.insert(id.clone(), kept);
        points.push(json!({
            "point": point["point"], "call": point["call"], "shape": point["shape"], "stride": stride, "tensor": id,
            "noise_floor": point["noise_floor"],
        }));
    }
    tensors::write(&copy.path("samples.safetensors"), &samples);
    for file in ["activations.safetensors", "truth.safetensors"] {
        let _ = std::fs::remove_file(copy.path(file));
    }
    copy.tell(|manifest| {
        manifest["points"] = json!(points);
        manifest.as_object_mut().expect("an object").remove("order");
    })
}

#[test]
fn samples_are_held_against_samples_and_against_whole_tensors() {
    let (by_3, by_2, whole) = (sampled("tiny-small", 3), sampled("tiny-small", 2), Copy::of("tiny-small"));
    for (reference, candidate) in [(&by_3, &by_3), (&by_3, &by_2), (&by_3, &whole), (&whole, &by_3)] {
        let (code, record, said) = compare(reference.dir.path(), candidate.dir.path(), &[]);
        assert_eq!(code, 0, "{said}");
        assert!(record["summary"]["cumulative"]["compared"].as_u64().is_some_and(|count| count > 100));
    }
    let wrong = Copy::of("tiny-small").values("model.norm#0.out", |tensor| {
        floats(tensor, |index, value| if index == 12 { value + 1.0 } else { value });
    });
    let (code, record, _) = compare(by_3.dir.path(), wrong.dir.path(), &[]);
    let first =
        record["taps"].as_array().expect("taps").iter().find(|t| t["status"] == "fail").expect("failed").clone();
    assert_eq!((code, &first["point"]), (1, &json!("model.norm")));
    assert_eq!(first["metrics"]["max_abs"]["coordinate"], json!([0, 0, 12]), "its place in the whole tensor");
    let (code, ..) = compare(by_2.dir.path(), sampled("tiny-small", 7).dir.path(), &[]);
    assert_eq!(code, 0, "every fourteenth element is in both");
}

#[test]
fn points_that_only_one_has_are_listed() {
    let candidate = Copy::of("tiny-small").tell(|manifest| {
        let order = manifest["order"].as_array_mut().expect("points");
        order.retain(|point| !text(&point["point"]).starts_with("model.layers.1.mlp"));
        let mut extra = order[0].clone();
        extra["point"] = json!("model.rope");
        order.push(extra);
    });
    let (code, record, said) = compare(&fixture("tiny-small"), candidate.dir.path(), &[]);
    assert_eq!(code, 0, "{said}");
    let left_out = record["not_compared"].as_array().expect("a list");
    assert!(left_out.iter().all(|entry| text(&entry["reason"]).starts_with("only in the reference: ")));
    assert_eq!(record["candidate"]["only_there"][0]["point"], "model.rope");
    assert!(said.contains("1 point is only in the candidate: model.rope"), "{said}");
}

#[test]
fn other_names_are_mapped_and_rules_must_fit() {
    let candidate = Copy::of("tiny-small").tell(|manifest| {
        for point in manifest["order"].as_array_mut().expect("points") {
            point["point"] = json!(format!("port.{}", text(&point["point"])));
        }
    });
    let (ours, theirs) = (fixture("tiny-small"), candidate.dir.path());
    let (code, record, _) = compare(&ours, theirs, &[]);
    assert_eq!((code, &record["summary"]["verdict"]), (2, &json!("nothing_compared")));
    let map = candidate.path("map.toml");
    let with = |rules: &str| {
        std::fs::write(&map, rules).expect("written");
        compare(&ours, theirs, &["--map", &map.to_string_lossy()])
    };
    let (code, record, said) = with("[[point]]\nfrom = \"port.*\"\nto = \"*\"\n");
    assert_eq!((code, &record["summary"]["points_mapped"]), (0, &record["summary"]["points_recorded"]), "{said}");
    for (rules, part) in [
        ("[[point]]\nfrom = \"port*\"\nto = \"one\"\n", "becomes one#0.out, which another point is called"),
        ("[[point]]\nfrom = \"no.such\"\nto = \"one\"\n", "\"no.such\" fits no point of the candidate"),
        ("from = 1", "unknown field"),
    ] {
        let (code, error, said) = with(rules);
        assert_eq!((code, &error["ok"]), (2, &json!(false)));
        assert!(said.contains(part), "{part}:\n{said}");
    }
}

#[test]
fn other_inputs_and_unusable_recordings_end_with_2() {
    let ours = fixture("tiny-small");
    let refused = |reference: &Path, candidate: &Path, part: &str| {
        let (code, object, said) = compare(reference, candidate, &[]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(part) && text(&object["error"]).contains(part), "{part}:\n{said}");
    };
    let other = Copy::of("tiny-small").edit("inputs.safetensors", |all| {
        floats(all.get_mut("images_ori").expect("there"), |index, value| if index == 5 { value + 1.0 } else { value });
        all.get_mut("input_ids").expect("there").bytes[0] ^= 1;
    });
    refused(&ours, other.dir.path(), "input_ids: 1 of");
    refused(&ours, other.dir.path(), "images_ori: 1 of 49152 values differ, the first at row-major index 5");
    refused(&ours, &fixture("tiny-base"), "images_ori: shape");
    let truncated = Copy::of("tiny-small");
    let file = truncated.path("activations.safetensors");
    let bytes = std::fs::read(&file).expect("there");
    std::fs::write(&file, &bytes[..bytes.len() - 1]).expect("written");
    refused(&ours, truncated.dir.path(), "activations.safetensors: the header asks for");
    refused(truncated.dir.path(), &ours, "activations.safetensors: the header asks for");
    let bare = Copy::of("tiny-small").tell(|manifest| {
        manifest["order"][1].as_object_mut().expect("a point").remove("noise_floor");
    });
    refused(bare.dir.path(), &ours, "1 points have no noise_floor");
    refused(&ours, Path::new("no/such/recording"), "manifest.json: No such file");
}

#[test]
fn a_nan_in_the_reference_is_bad_input_and_one_in_the_candidate_a_failure() {
    let point = "model.norm#0.out";
    let damaged = Copy::of("tiny-small").values(point, |tensor| {
        floats(tensor, |index, value| if index == 7 { f32::NAN } else { value });
    });
    let (code, _, said) = compare(damaged.dir.path(), &fixture("tiny-small"), &[]);
    assert_eq!(code, 2);
    assert!(said.contains("1 values are NaN or Inf, the first at row-major index 7"), "{said}");
    let (code, record, _) = compare(&fixture("tiny-small"), damaged.dir.path(), &[]);
    let first = &record["summary"]["first_divergence"];
    assert_eq!((code, &first["point"], &first["failure"]["why"]), (1, &json!("model.norm"), &json!("non_finite")));
}
