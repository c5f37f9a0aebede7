//! No circle of modules: what a module imports never leads back to it. Held for the crates whose folder list is to show how data goes.
//!
//! Imports are read as Rust reads them (`use` trees, paths from `crate`, `self` and `super`); a name that another module passes on by
//! `pub use` counts as an import of where it is from. Tests may import what they like.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

use super::{SourceFile, Violation};

/// Crates in which no circle may be.
const CRATES: [&str; 4] = ["audit", "convert", "model", "serve"];

/// A module's path from the crate's root.
type Module = Vec<String>;
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Modules of the crates above that import each other in a circle.
pub fn circles(files: &[SourceFile]) -> Vec<Violation> {
    CRATES.iter().flat_map(|name| in_crate(name, files)).collect()
}

fn in_crate(name: &str, files: &[SourceFile]) -> Vec<Violation> {
    let prefix = format!("{name}/src/");
    let mut paths = BTreeMap::new();
    let mut found = BTreeMap::new();
    for file in files {
        let (Some(path), Some(text)) = (file.path.strip_prefix(&prefix), &file.text) else { continue };
        let Some(path) = path.strip_suffix(".rs") else { continue };
        let mut module: Module = path.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        // What does not parse is the compiler's to tell.
        let Ok(parsed) = syn::parse_file(text) else { continue };
        let mut reader = Reader { module: module.clone(), ..Reader::default() };
        reader.visit_file(&parsed);
        paths.insert(module.clone(), file.path.clone());
        found.insert(module, reader);
    }
    let imports = imports(&found);
    let left = without_ends(imports);
    left.iter()
        .map(|(module, others)| {
            let others: Vec<String> = others.iter().map(|other| other.join("::")).collect();
            let message = format!("imports in a circle: {}", others.join(", "));
            Violation { path: paths[module].clone(), line: 0, rule: "circle", message }
        })
        .collect()
}

/// Which modules each imports, names that are passed on followed to where they are from.
fn imports(found: &BTreeMap<Module, Reader>) -> Imports {
    let owner = |path: &[String]| {
        (0..=path.len())
            .rev()
            .map(|len| path[..len].to_vec())
            .find(|module| found.contains_key(module))
            .unwrap_or_default()
    };
    let target = |path: &Module| {
        let mut path = path.clone();
        // A name is passed on a few times at most.
        for _ in 0..8 {
            let module = owner(&path);
            let passed = path.get(module.len()).and_then(|name| found.get(&module)?.passed_on.get(name));
            let Some(from) = passed.filter(|from| owner(from) != module) else { return module };
            path = from.iter().cloned().chain(path[module.len() + 1..].iter().cloned()).collect();
        }
        owner(&path)
    };
    let of = |(module, reader): (&Module, &Reader)| {
        let others = reader.imported.iter().map(target).filter(|other| other != module).collect();
        (module.clone(), others)
    };
    found.iter().map(of).collect()
}

/// What is left once every module that imports nothing left, or that nothing left imports, is taken away.
fn without_ends(mut imports: Imports) -> Imports {
    loop {
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        let count = imports.len();
        imports.retain(|module, others| !others.is_empty() && imported.contains(module));
        let left: BTreeSet<Module> = imports.keys().cloned().collect();
        imports.values_mut().for_each(|others| others.retain(|other| left.contains(other)));
        if imports.len() == count {
            return imports;
        }
    }
}

/// What one file imports.
#[derive(Default)]
struct Reader {
    /// Where the reader is: the file's module, or one inside it.
    module: Module,
    /// Paths from the crate's root.
    imported: Vec<Module>,
    /// Names that the file's module passes on, with where they are from.
    passed_on: BTreeMap<String, Module>,
}

impl Reader {
    /// A path from the crate's root, where it begins with `crate`, `self` or `super`.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let mut module = self.module.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => (module, rest) = (Module::new(), &rest[1..]),
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|part| part == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
            }
            _ => return None,
        }
        module.extend(rest.iter().cloned());
        Some(module)
    }

    fn tree(&mut self, tree: &UseTree, before: &mut Vec<String>, passes_on: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before, passes_on);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before, passes_on)),
            UseTree::Name(name) => self.name(before, &name.ident.to_string(), &name.ident.to_string(), passes_on),
            UseTree::Rename(name) => self.name(before, &name.ident.to_string(), &name.rename.to_string(), passes_on),
            UseTree::Glob(_) => self.name(before, "self", "*", false),
        }
    }

    fn name(&mut self, before: &[String], name: &str, known_as: &str, passes_on: bool) {
        let mut path = before.to_vec();
        if name != "self" {
            path.push(name.to_owned());
        }
        // `pub use child::Name` names a module of this one.
        let own = || self.module.iter().cloned().chain(path.iter().cloned()).collect();
        let is_relative = !matches!(path.first().map(String::as_str), Some("crate" | "self" | "super"));
        let from = if is_relative && passes_on { Some(own()) } else { self.absolute(&path) };
        let Some(from) = from else { return };
        if passes_on {
            self.passed_on.insert(known_as.to_owned(), from.clone());
        }
        self.imported.push(from);
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}

impl<'a> Visit<'a> for Reader {
    fn visit_item(&mut self, item: &'a Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {}
            Item::Mod(module) if module.content.is_some() => {
                self.module.push(module.ident.to_string());
                visit::visit_item_mod(self, module);
                self.module.pop();
            }
            Item::Use(item) if !is_test(&item.attrs) => {
                let passes_on = !matches!(item.vis, Visibility::Inherited);
                self.tree(&item.tree, &mut Vec::new(), passes_on);
            }
            other => visit::visit_item(self, other),
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if parts.len() > 1 {
            self.imported.extend(self.absolute(&parts));
        }
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| SourceFile {
            path: format!("convert/src/{path}"),
            byte_len: 0,
            text: Some((*text).to_owned()),
        };
        let files: Vec<SourceFile> = files.iter().map(file).collect();
        circles(&files).into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn a_circle_is_found_through_names_that_are_passed_on() {
        let both = ["convert/src/a/b.rs", "convert/src/c.rs"];
        let a = ("a/mod.rs", "mod b; pub use b::B;");
        assert_eq!(
            found(&[a, ("a/b.rs", "use crate::c::C; pub struct B;"), ("c.rs", "use crate::a::B; pub struct C;")]),
            both
        );
        assert_eq!(found(&[a, ("a/b.rs", "fn f() { crate::c::g() }"), ("c.rs", "pub fn g(_: crate::a::B) {}")]), both);
    }

    #[test]
    fn a_child_that_needs_its_parent_is_one_only_where_the_parent_needs_the_child() {
        let child = ("a/b.rs", "use super::T; impl T {}");
        assert!(found(&[("a/mod.rs", "mod b; pub struct T;"), child]).is_empty());
        assert_eq!(found(&[("a/mod.rs", "mod b; use self::b::X; pub struct T;"), child]).len(), 2);
    }

    #[test]
    fn tests_may_import_what_they_like() {
        let tested = ("c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::a::A; }");
        assert!(found(&[("a.rs", "use crate::c::C; pub struct A;"), tested]).is_empty());
    }
}
