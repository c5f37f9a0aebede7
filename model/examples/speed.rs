//! How fast the model is: vision, prefill, decoding at several batch sizes, and peak memory, as one JSON object on stdout.
//!
//! `speed MODEL_DIR cpu|gpu [STEPS]`. `xtask/speed/` measures the same of PyTorch and mlx-vlm: a gundam picture of 2 × 3 tiles, prompts of
//! 913 tokens, medians after warming up. Needs a converted model of the release's shape: bfloat16 for a GPU, float32 (`--dtype f32`) for a CPU, whose
//! BLAS knows nothing else.

use std::{io::Write as _, time::Instant};

use mlx_rs::{Array, Dtype, memory, transforms::eval};
use mlxport_model::{
    Image, LoadOptions, Model, Pass, Prompt, TileGrid, Tuned,
    decoding::{Engine, Options},
    runtime::{self, DeviceKind},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tokens of a prompt: those of a gundam picture of 2 × 3 tiles and ten more.
const PROMPT_TOKENS: i32 = 913;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let (Some(dir), Some(place)) = (args.get(1), args.get(2)) else {
        return Err("expected MODEL_DIR and cpu or gpu".into());
    };
    let steps: usize = args.get(3).map_or(Ok(128), |text| text.parse())?;
    let device = if place == "gpu" { DeviceKind::Gpu } else { DeviceKind::Cpu };
    runtime::use_device(device)?;
    let repeats = if place == "gpu" { 7 } else { 3 };
    let begun = Instant::now();
    let model = mlxport_model::load(dir.as_ref(), LoadOptions::usual(device))?;
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: f64| {
        let _ = writeln!(std::io::stderr(), "{key}: {value:.4}");
        object.insert(key.to_owned(), value.into());
    };
    put("load_s", begun.elapsed().as_secs_f64());
    // Of a CPU, `mlxport parity` times a whole pass.
    if place == "gpu" {
        let picture = picture()?;
        put("vision_s", median(repeats, || Ok(eval([&model.image_rows(&picture, &Pass::by(&Tuned))?])?))?);
    }
    // At once, and in pieces of 256 tokens as `mlxport serve` reads it.
    for (key, chunk) in [("prefill_s", None), ("prefill_by_256_s", Some(256))] {
        put(
            key,
            median(repeats, || {
                Ok(eval([&model.prefill(&prompt(0), &[], &mut model.new_cache(), chunk, &Pass::by(&Tuned))?])?)
            })?,
        );
    }
    for batch in if place == "gpu" { &[1, 8, 32][..] } else { &[1][..] } {
        put(&format!("decode_{batch}_tokens_per_s"), decode(&*model, *batch, steps)?);
    }
    put("peak_bytes", memory::peak_memory()? as f64);
    writeln!(std::io::stdout(), "{}", serde_json::Value::Object(object))?;
    Ok(())
}

/// 1024² and six tiles of 640².
fn picture() -> Result<Image> {
    let view = |count: i32, edge: i32| {
        let value = |i: i32| ((i64::from(i) * 7919) % 255) as f32 / 127.5 - 1.0;
        let values: Vec<f32> = (0..count * edge * edge * 3).map(value).collect();
        Array::from_slice(&values, &[count, edge, edge, 3]).as_dtype(Dtype::Bfloat16)
    };
    Ok(Image { global: view(1, 1024)?, tiles: Some(view(6, 640)?), grid: TileGrid { across: 2, down: 3 } })
}

fn prompt(number: i32) -> Prompt {
    let input_ids: Vec<i32> = (0..PROMPT_TOKENS).map(|at| (at * 7919 + number * 104_729) % 100_000 + 10).collect();
    Prompt { images_seq_mask: vec![false; input_ids.len()], input_ids, image: None }
}

/// Tokens per second of `batch` texts made together, over the later `steps` steps.
fn decode(model: &dyn Model, batch: usize, steps: usize) -> Result<f64> {
    let warm = (steps / 4).max(1);
    let mut engine = Engine::new(model);
    for id in 0..batch {
        engine.join(id, &prompt(id as i32), Options { max_tokens: warm + steps + 2, ..Options::default() })?;
    }
    let mut run = |count: usize| -> Result<f64> {
        let begun = Instant::now();
        for _ in 0..count {
            engine.step()?;
        }
        Ok(begun.elapsed().as_secs_f64())
    };
    run(warm)?;
    // In quarters, for a median.
    let mut quarters = (0..4).map(|_| run((steps / 4).max(1))).collect::<Result<Vec<f64>>>()?;
    quarters.sort_by(f64::total_cmp);
    Ok((batch * (steps / 4).max(1)) as f64 * 2.0 / (quarters[1] + quarters[2]))
}

/// Median seconds of `repeats` runs after two that warm up.
fn median(repeats: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..if repeats > 1 { 2 } else { 0 } {
        run()?;
    }
    let mut seconds = Vec::new();
    for _ in 0..repeats {
        let begun = Instant::now();
        run()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
