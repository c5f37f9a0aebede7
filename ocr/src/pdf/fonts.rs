//! Fonts for text whose font the document names but does not hold: the renderer's own stand-ins for the 14 standard fonts first, then,
//! for characters that these have no glyph for, fonts of the system or of directories that were named.

use std::{
    collections::{BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use fontdb::{Database, ID};
use hayro::hayro_interpret::{
    FontResolverFn,
    font::{FontData, FontQuery, StandardFont},
};

/// A font file's bytes, and the face in it.
pub type Face = (FontData, u32);

/// Fonts at hand.
#[derive(Clone)]
pub struct Fonts {
    directories: Vec<PathBuf>,
    database: Arc<OnceLock<Database>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was asked for, in order.
    asked: Vec<u64>,
    chosen: HashMap<u64, Face>,
}

impl Fonts {
    /// Fonts of the system and of `directories`, which are looked through when one is needed.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, database: Arc::default(), state: Arc::default() }
    }

    /// What the renderer asks.
    pub fn resolver(&self) -> FontResolverFn {
        let state = Arc::clone(&self.state);
        Arc::new(move |query| {
            let mut hasher = DefaultHasher::new();
            query.hash(&mut hasher);
            let key = hasher.finish();
            let usual = || match query {
                FontQuery::Standard(font) => font.get_font_data(),
                FontQuery::Fallback(font) => font.pick_standard_font().get_font_data(),
            };
            let Ok(mut state) = state.lock() else { return Some(usual()) };
            let is_symbols = matches!(query, FontQuery::Standard(StandardFont::Symbol | StandardFont::ZapfDingBats));
            if !is_symbols && !state.asked.contains(&key) {
                state.asked.push(key);
            }
            Some(state.chosen.get(&key).cloned().unwrap_or_else(usual))
        })
    }

    /// What was asked for so far.
    pub fn asked(&self) -> Vec<u64> {
        self.state.lock().map(|state| state.asked.clone()).unwrap_or_default()
    }

    /// Answers a question with this face from now on, `None`: as usual. Returns what it was answered with before.
    pub fn choose(&self, asked: u64, face: Option<Face>) -> Option<Face> {
        let mut state = self.state.lock().ok()?;
        match face {
            Some(face) => state.chosen.insert(asked, face),
            None => state.chosen.remove(&asked),
        }
    }

    /// Whether a face that stands in for another has no glyph for the character. Its glyphs may be found by their order, too, and are
    /// then others.
    pub fn lacks(&self, data: &FontData, character: char) -> bool {
        let start = |data: &FontData| (**data).as_ref().as_ptr();
        let Ok(state) = self.state.lock() else { return false };
        let own = state.chosen.values().find(|(chosen, _)| start(chosen) == start(data));
        own.is_some_and(|(data, index)| !covers((**data).as_ref(), *index, character))
    }

    /// The face that has glyphs for most of the characters, if any has one.
    pub fn best(&self, characters: &BTreeSet<char>) -> Option<Face> {
        let database = self.database.get_or_init(|| {
            let mut database = Database::new();
            for directory in &self.directories {
                database.load_fonts_dir(directory);
            }
            database.load_system_fonts();
            database
        });
        let count = |id: ID| {
            let count = |data: &[u8], index: u32| {
                let face = ttf_parser::Face::parse(data, index).ok()?;
                Some(characters.iter().filter(|character| face.glyph_index(**character).is_some()).count())
            };
            database.with_face_data(id, count).flatten().unwrap_or(0)
        };
        let plain = |face: &fontdb::FaceInfo| {
            usize::from(face.style == fontdb::Style::Normal && face.weight == fontdb::Weight::NORMAL)
        };
        // The first of equals: named directories come before the system's.
        let best = database.faces().map(|face| ((count(face.id), plain(face)), face.id));
        let best = best.reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (_, id) = best.filter(|((count, _), _)| *count > 0)?;
        database.with_face_data(id, |data, index| {
            let data: FontData = Arc::new(data.to_vec());
            (data, index)
        })
    }
}

fn covers(data: &[u8], index: u32, character: char) -> bool {
    ttf_parser::Face::parse(data, index).is_ok_and(|face| face.glyph_index(character).is_some())
}
