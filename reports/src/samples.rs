//! Hand-made records for the tests of every format: one that passes, one with a fault in CLIP's embeddings, one of nothing.

use mlxport_verdict::{
    Candidate, Choices, Detail, Environment, Failure, FixtureId, Floors, Header, Mode, ModelId, NotCompared, Points,
    Reference, ReferenceKind, Run, SCHEMA, Summary, TapId, TapRecord, Tool, compare, compare_sets,
};

/// Execution order of the samples' points.
const POINTS: [(&str, u32); 9] = [
    ("model.embed_tokens", 0),
    ("model.sam_model.blocks.0.attn", 0),
    ("model.sam_model.neck", 0),
    ("model.vision_model.embeddings", 0),
    ("model.vision_model.transformer.layers.0.mlp", 0),
    ("model.projector", 0),
    ("model.layers.1.mlp", 0),
    ("model.norm", 0),
    ("lm_head", 0),
];

/// A run that passes.
pub(crate) fn passing() -> Run {
    let error = |index: usize, _: Mode| 1e-7 * (1.0 + index as f64);
    run(error, true)
}

/// A run of which every float tap is off by what `error` says of its place and mode.
pub(crate) fn with_errors(error: impl Fn(usize, Mode) -> f64) -> Run {
    run(error, true)
}

/// A run with a fault in CLIP's embeddings: everything after inherits it.
pub(crate) fn failing() -> Run {
    let error = |index: usize, mode: Mode| match (index, mode) {
        (3, _) => 0.07,
        (4.., Mode::Cumulative) => 0.03 + 0.01 * index as f64,
        _ => 1e-7 * (1.0 + index as f64),
    };
    let mut run = run(error, false);
    run.taps.push(TapRecord::failed(
        header("model.layers.1.mlp.experts.7", 0, "out", Mode::Isolated, &[3, 8]),
        Failure::Missing,
    ));
    run.not_compared.pop();
    run.concluded(POINTS_OF_FIXTURE)
}

/// The same fault, told by two recordings.
pub(crate) fn compared() -> Run {
    let mut run = failing();
    run.modes = vec![Mode::Cumulative];
    run.taps.retain(|tap| tap.mode == Mode::Cumulative && tap.kind == "out");
    let only_there = vec![TapId { point: "model.rope".to_owned(), call: 0, kind: "out".to_owned() }];
    run.candidate = Some(Candidate {
        name: "port".to_owned(),
        manifest_sha256: "89abcdef01234567".repeat(4),
        made_by: "MLX 0.32.4, mlx-vlm 0.7.10".to_owned(),
        only_there,
        coverage: None,
    });
    run.concluded(Points { recorded: 17, mapped: 10 })
}

/// A run in which the selection left nothing.
pub(crate) fn nothing() -> Run {
    let mut run = run(|_, _| 0.0, true);
    for tap in run.taps.drain(..) {
        run.not_compared.push(NotCompared {
            point: tap.point,
            call: tap.call,
            kind: tap.kind,
            mode: None,
            reason: "not selected".to_owned(),
        });
    }
    run.concluded(POINTS_OF_FIXTURE)
}

/// Every point has an input and an output, then a router and eight experts.
const POINTS_OF_FIXTURE: Points = Points { recorded: 27, mapped: 19 };

fn run(error: impl Fn(usize, Mode) -> f64, choices_agree: bool) -> Run {
    let modes = vec![Mode::Cumulative, Mode::Isolated];
    let mut taps = Vec::new();
    for mode in &modes {
        for (index, (point, call)) in POINTS.into_iter().enumerate() {
            if *mode == Mode::Cumulative {
                let inherited = error(index.saturating_sub(1), *mode);
                taps.push(measured(header(point, call, "in", *mode, &[2, 4, 8]), inherited));
            }
            taps.push(measured(header(point, call, "out", *mode, &[2, 4, 8]), error(index, *mode)));
        }
        let agree = choices_agree || *mode == Mode::Isolated;
        let router = header("model.layers.1.mlp.gate", 0, "out", *mode, &[4, 2]);
        taps.push(TapRecord::chosen(router, Ok(choices(agree))));
    }
    let not_compared = (0..8).map(|expert| NotCompared {
        point: format!("model.layers.1.mlp.experts.{expert}"),
        call: 0,
        kind: "out".to_owned(),
        mode: None,
        reason: "experts run as one stacked product; their inner points do not exist in the port".to_owned(),
    });
    let run = Run {
        schema: SCHEMA,
        tool: Tool { name: "mlxport".to_owned(), version: "0.1.0".to_owned() },
        environment: environment(),
        fixture: fixture(),
        model: model(),
        candidate: None,
        modes,
        k: 4.0,
        shard: None,
        repeats: None,
        lock: None,
        summary: Summary::empty(),
        taps,
        not_compared: not_compared.collect(),
    };
    run.concluded(POINTS_OF_FIXTURE)
}

fn environment() -> Environment {
    Environment {
        mlx_version: "0.32.0".to_owned(),
        mlx_rs_version: "0.33.0".to_owned(),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        tf32: "0".to_owned(),
        threads: 2,
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        blas: Some("openblas".to_owned()),
    }
}

fn fixture() -> FixtureId {
    FixtureId {
        name: "sample".to_owned(),
        manifest_sha256: "0123456789abcdef".repeat(4),
        checkpoint_sha256: "fedcba9876543210".repeat(4),
        torch: "2.15.0".to_owned(),
    }
}

fn model() -> ModelId {
    ModelId {
        config_sha256: None,
        weights_hash: "00112233445566778899".to_owned(),
        layout: "mlx-vlm".to_owned(),
        recipe: "deepseek-ocr".to_owned(),
    }
}

/// A header as the runner makes it.
pub(crate) fn header(point: &str, call: u32, kind: &str, mode: Mode, shape: &[usize]) -> Header {
    Header {
        id: TapId { point: point.to_owned(), call, kind: kind.to_owned() },
        mode,
        shape: shape.to_vec(),
        dtype: "f32".to_owned(),
        reference: ReferenceKind::Truth,
    }
}

/// A tap whose candidate is off by `error` (relative RMS), unevenly.
pub(crate) fn measured(header: Header, error: f64) -> TapRecord {
    let count: usize = header.shape.iter().product();
    // No sine: libraries differ in its last bit, and snapshots hold every digit.
    let reference: Vec<f64> = (0..count).map(|i| ((i * 37) % 64) as f64 / 16.0 - 1.75).collect();
    let candidate: Vec<f32> =
        reference.iter().enumerate().map(|(i, r)| (r * (1.0 + error * (i % 3) as f64)) as f32).collect();
    let outcome = compare(&header.shape, Reference::F64(&reference), &candidate);
    let floors = Floors { torch: 6e-7, runtime: 4e-7, ulp: 8e-8 };
    let detail = Detail::of(Some(&header.shape), Reference::F64(&reference), &candidate);
    let mut record = TapRecord::measured(header, outcome, floors, 4.0);
    record.detail = Some(detail);
    record
}

fn choices(agree: bool) -> Choices {
    let reference = [0, 5, 1, 2, 3, 4, 6, 7];
    let candidate = if agree { [5, 0, 1, 2, 4, 3, 6, 7] } else { [5, 0, 1, 2, 4, 0, 6, 1] };
    compare_sets(4, 2, &reference, &candidate, None).expect("four tokens on both sides")
}
