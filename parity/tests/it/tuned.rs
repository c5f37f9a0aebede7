//! The verdict judges what users run: a fault in the tuned steps alone fails it, where the plain steps pass.

use std::path::Path;

use mlxport_convert::{WriteOptions, prepare};
use mlxport_parity::{
    Request, run,
    steps::{self, Edit, StepEdit},
};
use mlxport_verdict::{Run, Verdict};

/// The verdict on `tiny-small` with `edits` in the tuned steps alone.
fn verdict(edits: Vec<StepEdit>) -> Run {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data/tiny-small");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let model = dir.path().join("model");
    let checkpoint = mlxport_convert::Request { source: fixture.join("checkpoint"), ..Default::default() };
    prepare(&checkpoint).expect("a plan").write(&WriteOptions::to(&model)).expect("written");
    let request = Request { planted_in_tuned: edits, ..Request::new(model, fixture) };
    run(&request).expect("a verdict")
}

#[test]
fn a_fault_in_the_tuned_steps_alone_fails_the_verdict() {
    let sound = verdict(Vec::new()).summary;
    assert_eq!((sound.verdict, sound.tuned.failed), (Verdict::Pass, 0));
    assert!(sound.tuned.compared > 2, "rows, logits and decoding: {:?}", sound.tuned);
    let attention = steps::Modules::below("model.layers.", ".self_attn");
    let rows = steps::Modules::is("model").named("rows");
    for (at, edit, point) in [
        (rows, Edit::By(steps::rows_off_by_one), "model.layers.0.input_layernorm"),
        (attention, Edit::By(steps::rotated_reversed), "logits"),
        (attention, Edit::By(steps::cache_stale), "decode.no_repeat"),
    ] {
        let summary = verdict(vec![StepEdit { at, edit }]).summary;
        assert_eq!(
            (summary.verdict, summary.cumulative.failed, summary.isolated.failed),
            (Verdict::Fail, 0, 0),
            "{point}"
        );
        assert_eq!(summary.first_tuned_failure.expect("named").point, point);
    }
}
