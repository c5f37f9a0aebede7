//! Made-up conversions: a recipe, a checkpoint that fits it, and what must come out, worked out element by element.

use arbitrary::{Result, Unstructured};
use mlxport_convert::DtypeChoice;
use safetensors::Dtype;

use crate::release::{Release, Tensor};

/// What a conversion must write.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The tensor's key.
    pub name: String,
    /// dtype as written.
    pub dtype: Dtype,
    /// Shape as written.
    pub shape: Vec<u64>,
    /// Its elements in row-major order.
    pub values: Vec<u8>,
}

/// One made-up conversion.
#[derive(Debug)]
pub struct Case {
    /// The checkpoint and its recipe.
    pub release: Release,
    /// What float tensors become.
    pub dtype: DtypeChoice,
    /// What must be written, in the recipe's order.
    pub expected: Vec<Expected>,
    rows: Vec<String>,
    indices: Vec<String>,
    tensors: Vec<Tensor>,
}

impl Case {
    /// Makes a conversion out of bytes; any bytes make one.
    ///
    /// # Errors
    /// Never for lack of bytes: those that are missing count as zero.
    pub fn arbitrary(u: &mut Unstructured<'_>) -> Result<Self> {
        let dtype = *u.choose(&[DtypeChoice::Keep, DtypeChoice::Bf16, DtypeChoice::F16, DtypeChoice::F32])?;
        let release =
            Release { recipe: String::new(), config: String::new(), files: Vec::new(), indexed: u.arbitrary()? };
        let (expected, rows, indices, tensors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut case = Self { release, dtype, expected, rows, indices, tensors };
        for row in 0..u.int_in_range(1..=6)? {
            case.row(u, row)?;
        }
        case.deal(u)?;
        case.release.config = r#"{"model_type":"made-up"}"#.to_owned();
        case.release.recipe = case.recipe();
        Ok(case)
    }

    fn recipe(&self) -> String {
        format!(
            "schema = 1\nname = \"made-up\"\nlayouts = [\"only\"]\nfits = {{ model_type = [\"made-up\"] }}\n\
             config = {{ fields = [{{ path = \"model_type\", kind = \"text\" }}] }}\n[indices]\n{}[table]\nrows = [\n{}]\n",
            self.indices.concat(),
            self.rows.concat()
        )
    }

    /// Deals the tensors out to one to three files, in any order.
    fn deal(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let count = u.int_in_range(1..=3)?;
        self.release.files = vec![Vec::new(); count];
        let mut left = std::mem::take(&mut self.tensors);
        while !left.is_empty() {
            let tensor = left.swap_remove(u.choose_index(left.len())?);
            let file = u.choose_index(count)?;
            self.release.files[file].push(tensor);
        }
        if self.release.indexed {
            // An index names no file that holds nothing.
            self.release.files.retain(|tensors| !tensors.is_empty());
        }
        Ok(())
    }

    fn tensor(&mut self, key: &str, dtype: Dtype, shape: &[u64]) -> Tensor {
        let tensor = Tensor::counting(key, dtype, shape, self.tensors.len() as u64);
        self.tensors.push(tensor.clone());
        tensor
    }

    fn expect(&mut self, name: String, source: Dtype, shape: &[u64], values: Vec<u8>) {
        self.expected.push(Expected { name, dtype: self.dtype.apply(source), shape: shape.to_vec(), values });
    }

    fn push_row(&mut self, from: &str, shape: &[u64], rest: &str) {
        self.rows.push(format!("  {{ from = \"{from}\", shape = {}, {rest} }},\n", quoted(shape)));
    }

    fn row(&mut self, u: &mut Unstructured<'_>, row: usize) -> Result<()> {
        let dtype = *u.choose(&[Dtype::F32, Dtype::F16, Dtype::BF16])?;
        match u.int_in_range(0..=7)? {
            0 => self.copy(u, row)?,
            1 => self.conv(&sizes(u, 4)?, dtype, row),
            2 => self.transpose(&sizes(u, 2)?, dtype, row),
            3 => self.unfold(&sizes(u, 4)?, dtype, row),
            4 => self.split(u, dtype, row)?,
            5 => self.stack(u, dtype, row)?,
            6 => self.concat(u, dtype, row)?,
            _ => {
                let shape = some_sizes(u, 0)?;
                self.tensor(&format!("in.{row}"), dtype, &shape);
                self.push_row(&format!("in.{row}"), &shape, "op = \"drop\", reason = \"unused\"");
            }
        }
        Ok(())
    }

    fn copy(&mut self, u: &mut Unstructured<'_>, row: usize) -> Result<()> {
        let dtype = *u.choose(&[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I64])?;
        let mut shape = some_sizes(u, 0)?;
        if u.ratio(1, 8)? {
            shape.push(0);
        }
        let source = self.tensor(&format!("in.{row}"), dtype, &shape);
        self.push_row(&format!("in.{row}"), &shape, &format!("dtype = [\"{dtype}\"], to = \"out.{row}\""));
        self.expect(format!("out.{row}"), dtype, &shape, source.values);
        Ok(())
    }

    fn conv(&mut self, shape: &[u64], dtype: Dtype, row: usize) {
        let source = self.tensor(&format!("in.{row}"), dtype, shape);
        self.push_row(&format!("in.{row}"), shape, &format!("op = \"conv_oihw_to_ohwi\", to = \"out.{row}\""));
        let &[o, i, h, w] = shape else { return };
        let values = permuted(&source.values, [o, i, h, w], [0, 2, 3, 1]);
        self.expect(format!("out.{row}"), dtype, &[o, h, w, i], values);
    }

    fn transpose(&mut self, shape: &[u64], dtype: Dtype, row: usize) {
        let source = self.tensor(&format!("in.{row}"), dtype, shape);
        self.push_row(&format!("in.{row}"), shape, &format!("op = \"transpose\", to = \"out.{row}\""));
        let &[r, c] = shape else { return };
        let values = permuted(&source.values, [r, c, 1, 1], [1, 0, 2, 3]);
        self.expect(format!("out.{row}"), dtype, &[c, r], values);
    }

    fn unfold(&mut self, sizes: &[u64], dtype: Dtype, row: usize) {
        let &[o, channels, height, width] = sizes else { return };
        let shape = [o, channels * height * width];
        let source = self.tensor(&format!("in.{row}"), dtype, &shape);
        let rest = format!("op = \"permute_unfold\", kernel = [\"{height}\", \"{width}\"], to = \"out.{row}\"");
        self.push_row(&format!("in.{row}"), &shape, &rest);
        let values = permuted(&source.values, [o, channels, height, width], [0, 2, 3, 1]);
        self.expect(format!("out.{row}"), dtype, &shape, values);
    }

    fn split(&mut self, u: &mut Unstructured<'_>, dtype: Dtype, row: usize) -> Result<()> {
        let mut shape = some_sizes(u, 1)?;
        let part = shape.clone();
        shape[0] *= 3;
        let source = self.tensor(&format!("in.{row}"), dtype, &shape);
        let names = ["q", "k", "v"].map(|name| format!("out.{row}.{name}"));
        self.push_row(&format!("in.{row}"), &shape, &format!("op = \"split_qkv\", to = {names:?}"));
        let third = source.values.len() / 3;
        for (name, values) in names.into_iter().zip(source.values.chunks(third.max(1))) {
            self.expect(name, dtype, &part, values.to_vec());
        }
        Ok(())
    }

    fn stack(&mut self, u: &mut Unstructured<'_>, dtype: Dtype, row: usize) -> Result<()> {
        let (count, mut shape) = (u.int_in_range(1..=12)?, some_sizes(u, 0)?);
        let sources: Vec<Tensor> =
            (0..count).map(|at| self.tensor(&format!("in.{row}.{at}.w"), dtype, &shape)).collect();
        self.indices.push(format!("r{row} = {{ count = \"{count}\" }}\n"));
        let rest = format!("op = \"stack\", over = \"r{row}\", to = \"out.{row}\"");
        self.push_row(&format!("in.{row}.{{r{row}}}.w"), &shape, &rest);
        shape.insert(0, count);
        let values = sources.into_iter().flat_map(|source| source.values).collect();
        self.expect(format!("out.{row}"), dtype, &shape, values);
        Ok(())
    }

    fn concat(&mut self, u: &mut Unstructured<'_>, dtype: Dtype, row: usize) -> Result<()> {
        let base = some_sizes(u, 1)?;
        let axis = u.choose_index(base.len())?;
        let mut sources = Vec::new();
        for at in 0..u.int_in_range(2..=3)? {
            let mut shape = base.clone();
            shape[axis] = u.int_in_range(1..=4)?;
            sources.push(self.tensor(&format!("in.{row}.{at}"), dtype, &shape));
        }
        let keys: Vec<&str> = sources.iter().map(|source| source.key.as_str()).collect();
        let shapes: Vec<String> = sources.iter().map(|source| quoted(&source.shape)).collect();
        self.rows.push(format!(
            "  {{ from = {keys:?}, shape = [{}], op = \"concat\", axis = {axis}, to = \"out.{row}\" }},\n",
            shapes.join(", ")
        ));
        let mut shape = base;
        shape[axis] = sources.iter().map(|source| source.shape[axis]).sum();
        let rounds: u64 = shape[..axis].iter().product();
        let mut values = Vec::new();
        for round in 0..rounds as usize {
            for source in &sources {
                let run = source.values.len() / rounds as usize;
                values.extend_from_slice(&source.values[round * run..(round + 1) * run]);
            }
        }
        self.expect(format!("out.{row}"), dtype, &shape, values);
        Ok(())
    }
}

/// Four axes in another order, index by index.
fn permuted(values: &[u8], shape: [u64; 4], order: [usize; 4]) -> Vec<u8> {
    let out = order.map(|axis| shape[axis]);
    let mut moved = Vec::with_capacity(values.len());
    for flat in 0..out.iter().product::<u64>() {
        let mut index = [0; 4];
        let mut rest = flat;
        for at in (0..4).rev() {
            index[order[at]] = rest % out[at];
            rest /= out[at];
        }
        let from = index.iter().zip(shape).fold(0, |from, (at, len)| from * len + at);
        moved.push(values[from as usize]);
    }
    moved
}

fn sizes(u: &mut Unstructured<'_>, rank: usize) -> Result<Vec<u64>> {
    (0..rank).map(|_| u.int_in_range(1..=4)).collect()
}

fn some_sizes(u: &mut Unstructured<'_>, least: usize) -> Result<Vec<u64>> {
    let rank = u.int_in_range(least..=3)?;
    sizes(u, rank)
}

fn quoted(shape: &[u64]) -> String {
    format!("{:?}", shape.iter().map(u64::to_string).collect::<Vec<_>>())
}
