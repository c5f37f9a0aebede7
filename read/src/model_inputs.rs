//! A prompt and its pages, as the model takes them.

use mlxport_model::{Image, Prompt, TileGrid};
use mlxport_ocr::Inputs;

/// What the model is given: a prompt with its first picture, and the pictures that follow.
///
/// # Errors
/// When the numbers do not fit together.
pub fn model_inputs(inputs: &Inputs) -> anyhow::Result<(Prompt, Vec<Image>)> {
    let (view, tile) = (3 * inputs.side * inputs.side, 3 * inputs.tile * inputs.tile);
    let mut tiles = if inputs.tile_count == 0 { &[][..] } else { &inputs.images_crop };
    let mut images = Vec::new();
    // The release takes views whose values sum to 0 for none at all.
    let there = inputs.images_ori.iter().sum::<f32>() != 0.0;
    for (grid, whole) in inputs.images_spatial_crop.iter().zip(inputs.images_ori.chunks_exact(view)).filter(|_| there) {
        let count = if *grid == [1, 1] { 0 } else { usize::try_from(grid[0] * grid[1])? };
        let (own, others) = tiles.split_at_checked(count * tile).unwrap_or((tiles, &[]));
        tiles = others;
        let grid = TileGrid { across: i32::try_from(grid[0])?, down: i32::try_from(grid[1])? };
        images.push(Image::from_nchw(whole, inputs.side, own, inputs.tile, grid)?);
    }
    let mut images = images.into_iter();
    let input_ids = inputs.input_ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>()?;
    let prompt = Prompt { input_ids, images_seq_mask: inputs.images_seq_mask.clone(), image: images.next() };
    Ok((prompt, images.collect()))
}
