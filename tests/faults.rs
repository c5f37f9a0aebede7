//! Faults planted by hand: each must be caught, and named at the module where it was planted.

mod support;
#[path = "support/tensors.rs"]
mod tensors;

use mlxport_model::{fault::Faults, runtime::Place};
use mlxport_parity::{Request, Selection};
use mlxport_verdict::{Mode, Run, Verdict};
use support::{converted, edit_config, fixture};
use tensors::{Owned, Tensors};

/// What is done to the model.
enum Plant {
    /// A mistake in the graph.
    Graph(Faults),
    /// A value in config.json.
    Config(&'static str, f64),
    /// Damaged weights.
    Weights(fn(&mut Tensors)),
}

/// A fault and where it must be found.
struct Fault {
    name: &'static str,
    fixture: &'static str,
    plant: Plant,
    /// The first module that adds error by itself.
    added_by: &'static str,
    /// The first tap of the whole pass that diverges.
    first_seen: &'static str,
}

fn run(fault: &Fault) -> Run {
    let dir = converted(fault.fixture, "mlx-vlm");
    let model = dir.path().join("model");
    let mut faults = Faults::default();
    match &fault.plant {
        Plant::Graph(planted) => faults = *planted,
        Plant::Config(pointer, value) => edit_config(&model.join("config.json"), pointer, (*value).into()),
        Plant::Weights(damage) => {
            let path = model.join("model.safetensors");
            let mut all = tensors::read(&path);
            damage(&mut all);
            tensors::write(&path, &all);
        }
    }
    let request = Request {
        model,
        fixture: fixture(fault.fixture),
        modes: vec![Mode::Cumulative, Mode::Isolated],
        selection: Selection::default(),
        place: Place::Cpu,
        faults,
    };
    mlxport_parity::run(&request).expect("a verdict")
}

fn tensor<'a>(all: &'a mut Tensors, name: &str) -> &'a mut Owned {
    all.get_mut(name).unwrap_or_else(|| panic!("{name} is in the model"))
}

/// Exchanges experts 0 and 1 of layer 1.
fn exchange_experts(all: &mut Tensors) {
    for part in ["gate_proj", "up_proj", "down_proj"] {
        tensor(all, &format!("language_model.model.layers.1.mlp.switch_mlp.{part}.weight")).swap_rows(0, 1);
    }
}

/// Exchanges the decoder's query and key projections in layer 1.
fn exchange_q_and_k(all: &mut Tensors) {
    let name = |part: &str| format!("language_model.model.layers.1.self_attn.{part}.weight");
    let q = tensor(all, &name("q_proj")).bytes.clone();
    let k = std::mem::replace(&mut tensor(all, &name("k_proj")).bytes, q);
    tensor(all, &name("q_proj")).bytes = k;
}

/// Exchanges query and key in SAM's packed projection of block 2.
fn exchange_packed_q_and_k(all: &mut Tensors) {
    for part in ["weight", "bias"] {
        let packed = tensor(all, &format!("sam_model.blocks.2.attn.qkv.{part}"));
        for row in 0..packed.shape[0] / 3 {
            packed.swap_rows(row, row + packed.shape[0] / 3);
        }
    }
}

fn faults() -> Vec<Fault> {
    let none = Faults::default();
    vec![
        Fault {
            name: "CLIP's table resampled without antialias",
            fixture: "tiny-gundam",
            plant: Plant::Graph(Faults { clip_table_without_antialias: true, ..none }),
            added_by: "model.vision_model.embeddings#0.out",
            first_seen: "model.vision_model.embeddings#0.out",
        },
        Fault {
            name: "exact GELU where CLIP has quick_gelu",
            fixture: "tiny-base",
            plant: Plant::Graph(Faults { clip_exact_gelu: true, ..none }),
            added_by: "model.vision_model.transformer.layers.0.mlp#0.out",
            first_seen: "model.vision_model.transformer.layers.0.mlp.fc2#0.in",
        },
        Fault {
            name: "quick_gelu where SAM has the exact GELU",
            fixture: "tiny-base",
            plant: Plant::Graph(Faults { sam_quick_gelu: true, ..none }),
            added_by: "model.sam_model.blocks.0.mlp.act#0.out",
            first_seen: "model.sam_model.blocks.0.mlp.act#0.out",
        },
        Fault {
            name: "CLIP's eps 1e-5 taken for 1e-6",
            fixture: "tiny-small",
            plant: Plant::Config("/vision_config/width/clip-l-14-224/layer_norm_eps", 1e-6),
            added_by: "model.vision_model.pre_layrnorm#0.out",
            first_seen: "model.vision_model.pre_layrnorm#0.out",
        },
        Fault {
            name: "SAM's eps 1e-6 taken for 1e-5",
            fixture: "tiny-small",
            plant: Plant::Config("/vision_config/width/sam_vit_b/layer_norm_eps", 1e-5),
            added_by: "model.sam_model.blocks.0.norm1#0.out",
            first_seen: "model.sam_model.blocks.0.norm1#0.out",
        },
        Fault {
            name: "the decoder's eps 1e-6 taken for 1e-5",
            fixture: "tiny-small",
            plant: Plant::Config("/language_config/rms_norm_eps", 1e-5),
            added_by: "model.layers.0.input_layernorm#0.out",
            first_seen: "model.layers.0.input_layernorm#0.out",
        },
        Fault {
            name: "two axes of a square kernel swapped",
            fixture: "tiny-base",
            plant: Plant::Weights(|all| tensor(all, "sam_model.neck.2.weight").swap_middle_axes()),
            added_by: "model.sam_model.neck.2#0.out",
            first_seen: "model.sam_model.neck.2#0.out",
        },
        Fault {
            name: "two experts exchanged",
            fixture: "tiny-gundam",
            plant: Plant::Weights(exchange_experts),
            added_by: "model.layers.1.mlp.experts.0.gate_proj#0.out",
            first_seen: "model.layers.1.mlp.experts.0.gate_proj#0.out",
        },
        Fault {
            name: "the decoder's q and k exchanged",
            fixture: "tiny-gundam",
            plant: Plant::Weights(exchange_q_and_k),
            added_by: "model.layers.1.self_attn.q_proj#0.out",
            first_seen: "model.layers.1.self_attn.q_proj#0.out",
        },
        Fault {
            name: "SAM's packed q and k exchanged",
            fixture: "tiny-base",
            plant: Plant::Weights(exchange_packed_q_and_k),
            added_by: "model.sam_model.blocks.2.attn.qkv#0.out",
            first_seen: "model.sam_model.blocks.2.attn.qkv#0.out",
        },
        Fault {
            name: "tiles in column order",
            fixture: "tiny-grid",
            plant: Plant::Graph(Faults { tiles_in_column_order: true, ..none }),
            added_by: "model.layers.0.input_layernorm#0.in",
            first_seen: "model.layers.0.input_layernorm#0.in",
        },
    ]
}

#[test]
fn each_planted_fault_is_caught_and_named_where_it_was_planted() {
    let mut wrong = Vec::new();
    for fault in faults() {
        let record = run(&fault);
        let name = |tap: &Option<mlxport_verdict::TapRef>| tap.as_ref().map(|t| t.id().to_string());
        let found = (
            record.summary.verdict,
            name(&record.summary.first_isolated_failure),
            name(&record.summary.first_divergence),
        );
        let wanted = (Verdict::Fail, Some(fault.added_by.to_owned()), Some(fault.first_seen.to_owned()));
        if found != wanted {
            wrong.push(format!("{}:\n  found  {found:?}\n  wanted {wanted:?}", fault.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_fault_nothing_is_found() {
    let fault =
        Fault { name: "none", fixture: "tiny-gundam", plant: Plant::Weights(|_| ()), added_by: "", first_seen: "" };
    let record = run(&fault);
    assert_eq!(record.summary.verdict, Verdict::Pass, "a rewritten file is the same model");
}
