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

/// `input_ids`, `pixel_values`, `pixel_values_local`, `num_local_patches`, `patches_grid` of transformers' classes, for one prompt with one
/// picture or none; image features stand where `image_token` does.
///
/// # Errors
/// When one is missing, unknown, or they are not those of one prompt.
pub(super) fn of_transformers(recorded: &Recorded, image_token: i32) -> Result<Prompt> {
    const KNOWN: [&str; 6] =
        ["input_ids", "pixel_values", "pixel_values_local", "num_local_patches", "patches_grid", "attention_mask"];
    if let Some(name) = recorded.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(wrong(name, &format!("one of {}", KNOWN.join(", ")), "a tensor of another name".into()));
    }
    let ids = tensor(recorded, "input_ids")?;
    if ids.ndim() != 2 || ids.dim(0) != 1 {
        return Err(wrong("input_ids", "one prompt [1, T]", format!("{:?}", ids.shape())));
    }
    let input_ids = integers(recorded, "input_ids")?;
    if recorded.contains_key("attention_mask") && integers(recorded, "attention_mask")?.contains(&0) {
        return Err(wrong("attention_mask", "a prompt without padding", "zeros".into()));
    }
    let images_seq_mask = input_ids.iter().map(|&id| id == image_token).collect();
    Ok(Prompt { input_ids, images_seq_mask, image: picture(recorded)? })
}

fn picture(recorded: &Recorded) -> Result<Option<Image>> {
    let Some(whole) = recorded.get("pixel_values") else { return Ok(None) };
    let pixels = |name: &str, pixels: &Array| -> Result<Array> {
        match (pixels.dtype(), pixels.shape()) {
            (Dtype::Float32, [_, 3, height, width]) if height == width => TorchLayout::Nchw.from_torch(pixels),
            (dtype, shape) => Err(wrong(name, "float32 [N, 3, S, S]", format!("{dtype:?} {shape:?}"))),
        }
    };
    let global = pixels("pixel_values", whole)?;
    if global.dim(0) != 1 {
        return Err(wrong("pixel_values", "one picture", format!("{}", global.dim(0))));
    }
    let tiles = recorded.get("pixel_values_local").map(|tiles| pixels("pixel_values_local", tiles)).transpose()?;
    let count = tiles.as_ref().map_or(0, |tiles| tiles.dim(0));
    if recorded.contains_key("num_local_patches") && integers(recorded, "num_local_patches")? != [count] {
        return Err(wrong(
            "num_local_patches",
            &format!("[{count}], as many as pixel_values_local holds"),
            "another number".into(),
        ));
    }
    let grid = match recorded.get("patches_grid") {
        Some(_) => match integers(recorded, "patches_grid")?[..] {
            [across, down] => TileGrid { across, down },
            ref other => return Err(wrong("patches_grid", "columns and rows", format!("{other:?}"))),
        },
        None => TileGrid { across: count.max(1), down: 1 },
    };
    Ok(Some(Image { global, tiles, grid }))
}

fn integers(recorded: &Recorded, name: &str) -> Result<Vec<i32>> {
    let values = tensor(recorded, name)?.contiguous()?;
    if values.dtype() == Dtype::Bool {
        return Ok(values.try_as_slice::<bool>()?.iter().map(|&flag| i32::from(flag)).collect());
    }
    if values.dtype() != Dtype::Int32 {
        return Err(wrong(name, "int64", format!("{:?}", values.dtype())));
    }
    Ok(values.try_as_slice::<i32>()?.to_vec())
}

/// Encodes batches of views in `dtype`: together, or one after the other, the last one (the whole view) first as transformers' classes do.
/// Results come in the order of `views`.
///
/// # Errors
/// Those of `encode`.
pub(super) fn whole_view_first(
    views: &[Array],
    dtype: Dtype,
    together: bool,
    encode: impl Fn(&[Array]) -> Result<Vec<Array>>,
) -> Result<Vec<Array>> {
    let views = views.iter().map(|view| view.as_dtype(dtype)).collect::<std::result::Result<Vec<_>, _>>()?;
    if together {
        return encode(&views);
    }
    let mut features = views.chunks(1).rev().map(encode).collect::<Result<Vec<_>>>()?;
    features.reverse();
    Ok(features.concat())
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
