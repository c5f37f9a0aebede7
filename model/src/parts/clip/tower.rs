//! SAM and CLIP as one tower (`UnlimitedOcrVisionModel` of transformers).
//!
//! ```text
//! pixels [N, S, S, 3] ─ SAM → [N, g, g, a] ─ CLIP → [N, g² + 1, b]
//!   both for each place, CLIP's first and without its class row → [N, g², b + a]
//! ```

use mlx_rs::Array;

use super::ClipEncoder;
use crate::{
    contract::{Module, Pass, Site, Step, TorchLayout, one},
    error::{Error, Result},
    loading::Scope,
    parts::sam::SamEncoder,
};

/// Both encoders, and what they say of each place.
pub struct ClipTower {
    site: Site,
    sam_model: SamEncoder,
    vision_model: ClipEncoder,
}

impl ClipTower {
    /// A tower of encoders that are loaded already.
    pub fn new(scope: &Scope, sam_model: SamEncoder, vision_model: ClipEncoder) -> Self {
        Self { site: scope.site().with_layouts(TorchLayout::Nchw, TorchLayout::Same), sam_model, vision_model }
    }

    /// What both say of batches of views of different sizes: \[N, g², b + a\] each.
    ///
    /// # Errors
    /// When views and encoders do not fit.
    pub fn forward_all(&self, views: &[Array], pass: &Pass) -> Result<Vec<Array>> {
        if let [pixels] = views {
            return Ok(vec![self.forward(pixels, pass)?]);
        }
        let sam = self.sam_model.forward_all(views, pass)?;
        let clip = self.vision_model.forward_all(views, &sam, pass)?;
        sam.iter().zip(&clip).map(|(sam, clip)| both(sam, clip, pass)).collect()
    }

    fn forward(&self, pixels: &Array, pass: &Pass) -> Result<Array> {
        self.site.run(pass, &[pixels], || {
            let sam = self.sam_model.forward(pixels, pass)?;
            both(&sam, &self.vision_model.forward(pixels, &sam, pass)?, pass)
        })
    }
}

/// What both encoders say of each place: \[N, g, g, a\] and \[N, g² + 1, b\] → \[N, g², b + a\].
///
/// # Errors
/// When they are not of one size.
pub fn both(sam: &Array, clip: &Array, pass: &Pass) -> Result<Array> {
    let positions = sam.dim(1) * sam.dim(2);
    if clip.dim(1) != positions + 1 {
        return Err(Error::input("model", format!("{positions} positions and a class row"), clip.dim(1).to_string()));
    }
    // A step of the release's model, between its modules.
    let sam = pass.run("model", Step::Flatten { x: sam })?;
    let clip = pass.run("model", Step::Take { x: clip, start: 1, end: clip.dim(1) })?;
    pass.run_named("model", "features", Step::Join { parts: &[clip, sam], axis: 2 })
}

impl Module for ClipTower {
    fn site(&self) -> &Site {
        &self.site
    }

    fn call(&self, inputs: &[Array], pass: &Pass) -> Result<Array> {
        self.site.isolated(inputs, |x| self.forward(one(&self.site, x)?, pass))
    }

    fn children(&self) -> Vec<&dyn Module> {
        vec![&self.sam_model, &self.vision_model]
    }
}
