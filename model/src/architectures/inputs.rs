//! A recording's inputs, under the names of the release's arguments, as a prompt.

use mlx_rs::{Array, Dtype};

use crate::{
    contract::{Image, Prompt, Recorded, TileGrid, TorchLayout},
    error::{Error, Result},
};

/// `input_ids`, `images_seq_mask`, `images_ori`, `images_crop`, `images_spatial_crop` of `DeepseekOCRModel.forward`.
///
/// # Errors
/// When one is missing, or they are not those of one prompt.
pub(super) fn of_the_release(recorded: &Recorded) -> Result<Prompt> {
    let [ids, mask] = ["input_ids", "images_seq_mask"].map(|name| tensor(recorded, name));
    let (ids, mask) = (ids?.contiguous()?, mask?.contiguous()?);
    if (ids.dtype(), mask.dtype()) != (Dtype::Int32, Dtype::Bool) {
        let found = format!("{:?} and {:?}", ids.dtype(), mask.dtype());
        return Err(wrong("input_ids and images_seq_mask", "int64 and bool", found));
    }
    let (input_ids, images_seq_mask) = (ids.try_as_slice()?.to_vec(), mask.try_as_slice()?.to_vec());
    Ok(Prompt { input_ids, images_seq_mask, image: image(recorded)? })
}

/// The picture. The release takes a view whose values sum to 0 for "not there" (`torch.sum(...) != 0`), and so do we.
fn image(recorded: &Recorded) -> Result<Option<Image>> {
    let (whole, tiles) = (tensor(recorded, "images_ori")?, tensor(recorded, "images_crop")?);
    let Some(global) = view("images_ori", whole)? else { return Ok(None) };
    let crop = tensor(recorded, "images_spatial_crop")?.contiguous()?;
    let [across, down] = (if crop.dtype() == Dtype::Int32 { crop.try_as_slice::<i32>()? } else { &[] }) else {
        return Err(wrong(
            "images_spatial_crop",
            "one pair of int64",
            format!("{:?} {:?}", crop.dtype(), crop.shape()),
        ));
    };
    let grid = TileGrid { across: *across, down: *down };
    Ok(Some(Image { global, tiles: view("images_crop", tiles)?, grid }))
}

/// NCHW → channels-last, or nothing where the sum is 0.
fn view(name: &str, pixels: &Array) -> Result<Option<Array>> {
    if pixels.dtype() != Dtype::Float32 {
        return Err(wrong(name, "float32", format!("{:?}", pixels.dtype())));
    }
    // On the host, one by one, as it was recorded: a device may sum in another order.
    if pixels.contiguous()?.try_as_slice::<f32>()?.iter().sum::<f32>() == 0.0 {
        return Ok(None);
    }
    Ok(Some(TorchLayout::Nchw.from_torch(pixels)?))
}

fn tensor<'a>(recorded: &'a Recorded, name: &str) -> Result<&'a Array> {
    recorded.get(name).ok_or_else(|| wrong(name, "a tensor of this name", "none".into()))
}

fn wrong(name: &str, expected: &str, found: String) -> Error {
    Error::input(&format!("inputs.safetensors: {name}"), expected, found)
}
