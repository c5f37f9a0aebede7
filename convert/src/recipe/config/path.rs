//! Values at dotted paths of a JSON object (`vision_config.width.sam_vit_b.layers`).

use serde_json::{Map, Value};

/// The value at a dotted path.
pub fn lookup<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(json, |at, part| at.get(part))
}

/// Puts a value at a dotted path, making objects on the way (whatever stood there instead of an object is replaced).
pub fn set(json: &mut Value, path: &str, value: Value) {
    let mut at = json;
    for part in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(object) = at else { return };
        at = object.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

/// Removes the value at a dotted path, if there is one.
pub(super) fn remove(json: &mut Value, path: &str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = json;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        match at.get_mut(part) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let Value::Object(object) = at {
        object.shift_remove(name);
    }
}
