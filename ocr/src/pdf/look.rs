//! A page gone through without drawing it: characters of its text that no font at hand has a glyph for.

use std::collections::BTreeSet;

use hayro::hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, RectExt as _, SoftMask,
    font::{Glyph, GlyphId, GlyphRun, OutlineGlyph},
    hayro_cmap::BfString,
    interpret_page,
};
use hayro::hayro_syntax::page::Page;
use hayro::kurbo::{Affine, BezPath};

use super::fonts::Fonts;

/// Visible characters without a glyph. Empty where the page asks for no font that the document does not hold.
pub fn missing(page: &Page<'_>, fonts: &Fonts) -> BTreeSet<char> {
    let settings = InterpreterSettings { font_resolver: fonts.resolver(), ..InterpreterSettings::default() };
    let mut looker = Looker { fonts, missing: BTreeSet::new() };
    let cache = InterpreterCache::new();
    let target = page.intersected_crop_box().to_kurbo();
    let mut context = Context::new(Affine::IDENTITY, target, &cache, page.xref(), settings);
    interpret_page(page, &mut context, &mut looker);
    if fonts.asked().is_empty() { BTreeSet::new() } else { looker.missing }
}

struct Looker<'f> {
    fonts: &'f Fonts,
    missing: BTreeSet<char>,
}

impl Looker<'_> {
    fn glyph(&mut self, glyph: &OutlineGlyph) {
        let characters: Vec<char> = match glyph.as_unicode() {
            Some(BfString::Char(character)) => vec![character],
            Some(BfString::String(text)) => text.chars().collect(),
            None => return,
        };
        let is_visible =
            |character: &&char| !character.is_whitespace() && !character.is_control() && !is_format(**character);
        let Some(first) = characters.iter().find(is_visible) else { return };
        let is_none = glyph.glyph_id() == GlyphId::NOTDEF || glyph.outline().elements().is_empty();
        if is_none || glyph.font_data().is_some_and(|font| self.fonts.lacks(&font.data, *first)) {
            self.missing.insert(*first);
        }
    }
}

/// Characters that are not seen: soft hyphens, joiners, marks of direction; and those without a meaning of their own.
fn is_format(character: char) -> bool {
    matches!(u32::from(character), 0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xFEFF)
        || matches!(u32::from(character), 0xE000..=0xF8FF | 0xFFF0..=0xFFFF | 0xF0000..)
}

impl<'a> Device<'a> for Looker<'_> {
    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, _: DrawProps<'a>, mode: &DrawMode) {
        if matches!(mode, DrawMode::Invisible) {
            return;
        }
        for glyph in run.glyphs() {
            if let Glyph::Outline(outline) = &**glyph {
                self.glyph(outline);
            }
        }
    }
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}
