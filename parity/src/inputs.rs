//! What the model is fed, from a fixture's `inputs.safetensors`.

use mlx_rs::{Array, Dtype};
use mlxport_fixtures::{Data, Fixture, Tensor};
use mlxport_model::{
    Prompt,
    image::{Image, TileGrid},
    tap::TorchLayout,
};

use crate::{
    error::{Error, Result},
    host,
};

/// The prompt that was recorded.
///
/// # Errors
/// When the fixture's inputs are not those of one prompt.
pub fn prompt(fixture: &Fixture) -> Result<Prompt> {
    let ids = fixture.input("input_ids")?;
    let mask = fixture.input("images_seq_mask")?;
    let (Data::I64(ids), Data::Bool(images_seq_mask)) = (ids.data, mask.data) else {
        return Err(Error::Mismatch("inputs.safetensors: input_ids must be int64 and images_seq_mask bool".into()));
    };
    let input_ids: std::result::Result<Vec<i32>, _> = ids.iter().map(|&id| i32::try_from(id)).collect();
    let input_ids = input_ids.map_err(|_| Error::Mismatch("inputs.safetensors: an id does not fit int32".into()))?;
    Ok(Prompt { input_ids, images_seq_mask, image: image(fixture)? })
}

/// The picture. The release takes a view whose values sum to 0 for "not there" (`torch.sum(...) != 0`), and so do we.
fn image(fixture: &Fixture) -> Result<Option<Image>> {
    let (whole, tiles) = (fixture.input("images_ori")?, fixture.input("images_crop")?);
    let Some(global) = view(&whole)? else { return Ok(None) };
    let crop = fixture.input("images_spatial_crop")?;
    let grid = match &crop.data {
        Data::I64(values) if values.len() == 2 => TileGrid { across: values[0] as i32, down: values[1] as i32 },
        _ => return Err(Error::Mismatch("inputs.safetensors: images_spatial_crop must hold one pair".into())),
    };
    Ok(Some(Image { global, tiles: view(&tiles)?, grid }))
}

/// NCHW → channels-last, or nothing where the sum is 0.
fn view(pixels: &Tensor) -> Result<Option<Array>> {
    let Data::F32(values) = &pixels.data else {
        return Err(Error::Mismatch("inputs.safetensors: images must be float32".into()));
    };
    if values.iter().sum::<f32>() == 0.0 {
        return Ok(None);
    }
    Ok(Some(TorchLayout::Nchw.from_torch(&host::array(pixels, Dtype::Float32)?)?))
}
