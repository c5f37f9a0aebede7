//! A whole conversion: recipe and checkpoint made out of the input, survey, write, verify. Then, perhaps, with one thing broken.
//!
//! A sound one must come out as worked out by hand, element by element, however it is cut into files and buffers; a broken one must
//! end in a list of what is wrong, or be verified all the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use arbitrary::{Result, Unstructured};
use mlxport_convert::{ConvertError, Request, WriteOptions, survey, verify};
use safetensors::{Dtype, SafeTensors};

use crate::case::{Case, Expected};
use crate::place;
use crate::release::{Release, encode};

/// Makes the conversion and carries it out.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Bytes that are missing count as zero, so any input makes a case.
    let Ok(case) = Case::arbitrary(&mut u) else { return };
    let Ok(options) = options(&mut u) else { return };
    let source = place::path("release");
    let recipe = case.release.write(&source);
    let request =
        Request { source, recipe: Some(recipe.display().to_string()), dtype: case.dtype, ..Request::default() };
    let manifest = convert(&request, &options).unwrap_or_else(|error| panic!("a sound release: {error}\n{case:#?}"));
    check_output(&options.target, &case.expected);
    assert_eq!(manifest, case.expected.len());
    if u.arbitrary().unwrap_or(false) && break_one(&mut u, &case, &request.source).is_ok() {
        let _ = fs::remove_dir_all(&options.target);
        if let Err(error) = convert(&request, &options) {
            assert!(!options.target.exists(), "something is left of a conversion that failed: {error}");
            if let ConvertError::Violations(found) = error {
                assert!(!found.0.is_empty(), "refused without a reason");
            }
        }
    }
}

fn options(u: &mut Unstructured<'_>) -> Result<WriteOptions> {
    let target = place::path("converted");
    let _ = fs::remove_dir_all(&target);
    let mut options = WriteOptions::to(target);
    options.max_shard_byte_len = u.int_in_range(1..=2_000)?;
    options.memory_byte_len = u.int_in_range(0..=64 << 20)?;
    Ok(options)
}

/// Surveys, writes, verifies; returns how many tensors were written.
fn convert(request: &Request, options: &WriteOptions) -> std::result::Result<usize, ConvertError> {
    let survey = survey(request)?;
    assert!(survey.plan.is_some() || !survey.violations.is_empty(), "no plan and no reason");
    let prepared = survey.into_prepared()?;
    let manifest = prepared.write(options)?;
    let report = verify(&options.target)?;
    assert!(report.differences.is_empty(), "{:?}", report.differences);
    assert_eq!(report.tensors, prepared.plan.tensors.len());
    Ok(manifest.tensors.len())
}

/// Every expected tensor is there with the very bytes, and no other; the files are the `safetensors` crate's.
fn check_output(target: &Path, expected: &[Expected]) {
    let mut found: BTreeMap<String, (Dtype, Vec<u64>, Vec<u8>)> = BTreeMap::new();
    for path in weight_files(target) {
        let bytes = fs::read(&path).expect("just written");
        let file = SafeTensors::deserialize(&bytes).expect("the safetensors crate takes it");
        for (name, view) in file.iter() {
            let shape = view.shape().iter().map(|&n| n as u64).collect();
            let twice = found.insert(name.to_owned(), (view.dtype(), shape, view.data().to_vec()));
            assert!(twice.is_none(), "{name} is written twice");
        }
    }
    assert_eq!(found.len(), expected.len(), "{:?}", found.keys());
    for Expected { name, dtype, shape, values } in expected {
        let bytes: Vec<u8> = values.iter().flat_map(|&value| encode(*dtype, value)).collect();
        assert_eq!(found.get(name), Some(&(*dtype, shape.clone(), bytes)), "{name}");
    }
}

fn weight_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("just written");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect()
}

/// Breaks one file of the release: cut short, one byte changed, gone, or grown.
fn break_one(u: &mut Unstructured<'_>, case: &Case, source: &Path) -> Result<()> {
    let mut names = vec!["config.json".to_owned(), "recipe.toml".to_owned()];
    names.extend((0..case.release.files.len()).map(Release::file_name));
    if case.release.indexed {
        names.push("model.safetensors.index.json".to_owned());
    }
    let path = source.join(u.choose(&names)?);
    let mut bytes = fs::read(&path).expect("just written");
    match u.int_in_range(0..=3)? {
        0 => bytes.truncate(u.choose_index(bytes.len().max(1))?),
        1 => {
            let at = u.choose_index(bytes.len().max(1))?;
            let with: u8 = u.arbitrary()?;
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = with);
        }
        2 => bytes.extend(u.arbitrary::<[u8; 4]>()?),
        _ => {
            fs::remove_file(&path).expect("it was there");
            return Ok(());
        }
    }
    place::write(&path, &bytes);
    Ok(())
}
