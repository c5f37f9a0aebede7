//! The model's inputs, under the names, dtypes and shapes of a fixture's `inputs.safetensors`.

use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::OcrError;
use crate::page::Page;
use crate::prompt::Prompter;
use crate::views::{Mode, views_of};

/// What the model is given. All values are little-endian and row-major once written.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `int64 [1, T]`.
    pub input_ids: Vec<i64>,
    /// `bool [1, T]`: where an image's features go.
    pub images_seq_mask: Vec<bool>,
    /// `int64 [N, 2]`: columns and rows of each image's grid.
    pub images_spatial_crop: Vec<[i64; 2]>,
    /// `f32 [N, 3, side, side]`: the whole views, from -1 to 1.
    pub images_ori: Vec<f32>,
    /// `f32 [tiles, 3, tile, tile]`, from -1 to 1; zeros of `[1, 3, side, side]` where no image has tiles.
    pub images_crop: Vec<f32>,
    /// The whole views' side in pixels.
    pub side: usize,
    /// Pixels per side of a tile.
    pub tile: usize,
    /// How many tiles all images have together.
    pub tile_count: usize,
    /// How many positions each image fills.
    pub token_counts: Vec<usize>,
}

/// Makes a prompt and its images into inputs.
///
/// # Errors
/// When a page is too thin, or the prompt has not one `<image>` for each page.
pub fn prepare(prompter: &Prompter, prompt: &str, pages: &[Page], mode: Mode) -> Result<Inputs, OcrError> {
    let cut = prompter.cut();
    let (placeholders, images) = (prompt.matches(crate::IMAGE_TOKEN).count(), pages.len());
    if placeholders != images || images == 0 {
        return Err(OcrError::Placeholders { placeholders, images });
    }
    let side = mode.side();
    let (mut images_ori, mut images_crop) = (Vec::new(), Vec::new());
    let (mut images_spatial_crop, mut token_counts, mut tile_count) = (Vec::new(), Vec::new(), 0);
    for page in pages {
        let views = views_of(page, mode, cut)?;
        images_ori.extend(views.values(&views.whole));
        images_crop.extend(views.tiles.iter().flat_map(|tile| views.values(tile)));
        images_spatial_crop.push(views.grid.map(|count| count as i64));
        token_counts.push(views.token_count());
        tile_count += views.tiles.len();
    }
    if tile_count == 0 {
        images_crop = vec![0.0; 3 * side * side];
    }
    let (input_ids, images_seq_mask) = prompter.encode(prompt, &token_counts)?;
    Ok(Inputs {
        input_ids,
        images_seq_mask,
        images_spatial_crop,
        images_ori,
        images_crop,
        side,
        tile: cut.tile,
        tile_count,
        token_counts,
    })
}

impl Inputs {
    /// How many tokens and tiles there are, as one object.
    #[must_use]
    pub fn counts(&self) -> serde_json::Value {
        serde_json::json!({
            "tokens": self.input_ids.len(),
            "image_tokens": self.token_counts,
            "images_spatial_crop": self.images_spatial_crop,
            "tiles": self.tile_count,
        })
    }

    /// The same in words: `4 tiles, 913 tokens, 903 of them of images`.
    #[must_use]
    pub fn counts_text(&self) -> String {
        let image_tokens: usize = self.token_counts.iter().sum();
        format!("{} tiles, {} tokens, {image_tokens} of them of images", self.tile_count, self.input_ids.len())
    }

    /// Writes the inputs to a safetensors file, by rename: it is there whole, or not at all. An older file is replaced.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), OcrError> {
        let io = |source| OcrError::Io { path: path.to_owned(), source };
        let bytes =
            self.to_bytes().map_err(|error| OcrError::Write { path: path.to_owned(), reason: error.to_string() })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        let mut stage = tempfile::Builder::new().prefix(".mlxport-").tempfile_in(folder).map_err(io)?;
        stage.write_all(&bytes).map_err(io)?;
        stage.as_file().sync_all().map_err(io)?;
        stage.persist(path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// The safetensors file's bytes.
    fn to_bytes(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let count = self.images_spatial_crop.len();
        let (tiles, tile) = if self.tile_count == 0 { (1, self.side) } else { (self.tile_count, self.tile) };
        let length = self.input_ids.len();
        let ids: Vec<u8> = self.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let mask: Vec<u8> = self.images_seq_mask.iter().map(|image| u8::from(*image)).collect();
        let crop: Vec<u8> = self.images_spatial_crop.iter().flatten().flat_map(|side| side.to_le_bytes()).collect();
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (whole, parts) = (floats(&self.images_ori), floats(&self.images_crop));
        let tensors = [
            ("images_crop", TensorView::new(Dtype::F32, vec![tiles, 3, tile, tile], &parts)?),
            ("images_ori", TensorView::new(Dtype::F32, vec![count, 3, self.side, self.side], &whole)?),
            ("images_seq_mask", TensorView::new(Dtype::BOOL, vec![1, length], &mask)?),
            ("images_spatial_crop", TensorView::new(Dtype::I64, vec![count, 2], &crop)?),
            ("input_ids", TensorView::new(Dtype::I64, vec![1, length], &ids)?),
        ];
        safetensors::serialize(tensors, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_fixtures_names_shapes_and_dtypes() {
        let inputs = Inputs {
            input_ids: vec![0, 128_815],
            images_seq_mask: vec![false, true],
            images_spatial_crop: vec![[1, 1]],
            images_ori: vec![0.5; 12],
            images_crop: vec![0.0; 12],
            side: 2,
            tile: 640,
            tile_count: 0,
            token_counts: vec![1],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("inputs.safetensors");
        inputs.write(&path).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
        let shape = |name: &str| file.tensor(name).map(|t| (t.dtype(), t.shape().to_vec())).expect("a tensor");
        assert_eq!(shape("input_ids"), (Dtype::I64, vec![1, 2]));
        assert_eq!(shape("images_seq_mask"), (Dtype::BOOL, vec![1, 2]));
        assert_eq!(shape("images_spatial_crop"), (Dtype::I64, vec![1, 2]));
        assert_eq!(shape("images_ori"), (Dtype::F32, vec![1, 3, 2, 2]));
        assert_eq!(shape("images_crop"), (Dtype::F32, vec![1, 3, 2, 2]));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
