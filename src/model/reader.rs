//! Hands out a checkpoint's tensors in the shapes a configuration asks for, and keeps account of
//! them, so that a tensor nobody asked for is noticed.

use std::collections::BTreeSet;
use std::path::Path;

use super::Numbers;
use super::checkpoint::Checkpoint;
use crate::device::{DType, Elements, Tensor};
use crate::error::{Error, Result};

/// Where a model's tensors come from: given the name and shape in the file layout, the elements.
pub(super) type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f64>> + 'a;

/// The tensors of one checkpoint for programs of one dtype. Every tensor handed out has the shape asked
/// for and is finite, also in that dtype; the errors name the file, the tensor, and the index of a value.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a Checkpoint,
    dtype: DType,
    /// Every value is rounded to bf16 before all else.
    rounded: bool,
    asked: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a Checkpoint, numbers: impl Into<Numbers>) -> Self {
        let Numbers { dtype, bf16_weights } = numbers.into();
        Self { file, dtype, rounded: bf16_weights, asked: BTreeSet::new() }
    }
    /// Whether the checkpoint has a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.file.shape(name).is_some()
    }
    /// The file that has the tensor, or the first one.
    pub fn path_of(&self, name: &str) -> &Path {
        self.file.path_of(name)
    }
    /// The first of several names of a tensor that the checkpoint has; the first of all if it has none.
    /// Panics without names.
    pub fn either<'n>(&self, names: &[&'n str]) -> &'n str {
        names.iter().find(|name| self.has(name)).unwrap_or(&names[0])
    }
    /// The elements of a tensor, row-major.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let elements = self.elements(name, shape)?;
        let mut values = vec![0.0; elements.len()];
        elements.read_into(0, &mut values);
        Ok(values)
    }
    /// A tensor of any shape as a vector `[1, n]` in memory of its own.
    pub fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::row(self.dtype, self.tensor(name, shape)?))
    }
    /// A tensor `[.., cols]` as a matrix of its rows, left in the file at the dtype it is stored in. For
    /// operations that read mapped tensors: `W` of a linear map, the tables of a token embedding.
    pub fn mapped(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let elements = self.elements(name, shape)?;
        let (cols, outer) = shape.split_last().map_or((1, &[][..]), |(cols, outer)| (*cols, outer));
        Ok(Tensor::mapped(self.dtype, outer.iter().product(), cols, elements))
    }
    fn elements(&mut self, name: &str, shape: &[usize]) -> Result<Elements> {
        self.asked.insert(name.into());
        self.file.check_shape(name, shape, " by config.json")?;
        let exact = self.file.elements(name)?;
        let elements = if self.rounded { exact.clone().rounded() } else { exact.clone() };
        let Some(i) = elements.find_unfit(self.dtype) else { return Ok(elements) };
        let mut value = [0.0];
        exact.read_into(i, &mut value);
        let narrow = if elements.is_rounded() { "bf16" } else { self.dtype.name() };
        let range = format!("values within the range of {narrow}");
        Err(self.file.unfit(name, value[0], i, if value[0].is_finite() { &range } else { "finite values" }))
    }
    /// The names asked for so far, sorted, whether the checkpoint has them or not.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        self.asked.iter().map(String::as_str)
    }
    /// Fails if the file holds a tensor that was neither asked for nor is one to `skip`.
    pub fn finish(self, skip: impl Fn(&str) -> bool) -> Result<()> {
        match self.file.names().find(|&n| !self.asked.contains(n) && !skip(n)) {
            None => Ok(()),
            Some(name) => Err(Error::tensor(
                self.file.path_of(name),
                name,
                "a tensor that the model has no place for",
                "only tensors that config.json calls for",
            )),
        }
    }
}

/// Checks that no value overflows when rounded to `dtype`; fails with the first that does.
pub(crate) fn in_range(values: &[f64], dtype: DType) -> std::result::Result<(), usize> {
    match dtype {
        DType::F64 => Ok(()),
        DType::F32 => values.iter().position(|&x| !(x as f32).is_finite()).map_or(Ok(()), Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Stored;
    use crate::model::fixture::{Tensors, write};

    fn checkpoint(tensors: Tensors) -> Checkpoint {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        write(&path, &tensors);
        Checkpoint::open(&path).unwrap()
    }
    fn f64s(x: &[f64]) -> Vec<u8> {
        x.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
    fn halves(x: &[u16]) -> Vec<u8> {
        x.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn tensors_are_handed_out_under_either_name_and_surplus_ones_are_noticed() {
        let file = checkpoint(Tensors::from([
            ("h.bias".into(), ("BF16", vec![2], halves(&[0x3f80, 0xc000]))),
            ("h.weight".into(), ("F16", vec![2, 1, 3], halves(&[0x3c00, 0x4000, 0x4200, 0, 0xbc00, 1]))),
            ("surplus".into(), ("F32", vec![1], vec![0; 4])),
        ]));
        let mut r = Reader::new(&file, DType::F32);
        assert_eq!(r.either(&["transformer.h.bias", "h.bias"]), "h.bias");
        assert_eq!(r.either(&["b", "c"]), "b");
        let bias = r.vector("h.bias", &[2]).unwrap();
        assert_eq!((bias.slice::<f32>(), bias.rows, bias.is_mapped()), (&[1.0f32, -2.0][..], 1, false));
        let w = r.mapped("h.weight", &[2, 1, 3]).unwrap();
        assert_eq!((w.rows, w.cols, w.stored(), w.dtype(), w.bytes()), (2, 3, Stored::F16, DType::F32, 0));
        assert_eq!(w.to_f64(), [1.0, 2.0, 3.0, 0.0, -1.0, 2f64.powi(-24)]);
        let m = r.mapped("h.weight", &[3, 2]).unwrap_err().to_string();
        assert!(m.contains("tensor h.weight: shape [2, 1, 3]; expected shape [3, 2] by config.json"), "{m}");
        let m = r.mapped("absent", &[3, 2]).unwrap_err().to_string();
        assert!(m.contains("tensor absent: not in the file, which holds h.bias, h.weight, surplus"), "{m}");
        assert_eq!(r.asked().collect::<Vec<_>>(), ["absent", "h.bias", "h.weight"]);
        let m = r.finish(|_| false).unwrap_err().to_string();
        assert!(m.contains("tensor surplus: a tensor that the model has no place for"), "{m}");
        let mut r = Reader::new(&file, DType::F32);
        r.tensor("h.bias", &[2]).unwrap();
        r.tensor("h.weight", &[2, 1, 3]).unwrap();
        r.finish(|name| name == "surplus").unwrap();
    }

    #[test]
    fn values_that_do_not_fit_are_named_with_their_index() {
        let wide = f64::from(f32::MAX) * 1.5;
        let between = f64::from(f32::MAX);
        let file = checkpoint(Tensors::from([
            ("half".into(), ("F16", vec![2, 2], halves(&[0, 0, 0x7c00, 0]))),
            ("brain".into(), ("BF16", vec![2, 2], halves(&[0, 0, 0, 0xff80]))),
            ("wide".into(), ("F64", vec![3, 2], f64s(&[0.0, 0.0, 0.0, -wide, 0.0, f64::NAN]))),
            ("between".into(), ("F64", vec![2], f64s(&[1.0, between]))),
        ]));
        let message = |r: &mut Reader, name: &str, shape: &[usize]| {
            let (a, b) = (r.mapped(name, shape).unwrap_err().to_string(), r.vector(name, shape).unwrap_err().to_string());
            assert!(a == b && a.contains(&format!("tensor {name}: ")), "{a}, {b}");
            a.split_once(&format!("tensor {name}: ")).unwrap().1.to_string()
        };
        let (mut double, mut single) = (Reader::new(&file, DType::F64), Reader::new(&file, DType::F32));
        let mut rounded = Reader::new(&file, Numbers { dtype: DType::F32, bf16_weights: true });
        assert_eq!(message(&mut double, "half", &[2, 2]), "inf at index [1, 0]; expected finite values");
        assert_eq!(message(&mut single, "brain", &[2, 2]), "-inf at index [1, 1]; expected finite values");
        assert_eq!(message(&mut double, "wide", &[3, 2]), "NaN at index [2, 1]; expected finite values");
        let range = format!("{:?} at index [1, 1]; expected values within the range of f32", -wide);
        assert_eq!(message(&mut single, "wide", &[3, 2]), range);
        assert!(double.mapped("between", &[2]).is_ok() && single.mapped("between", &[2]).is_ok());
        let range = format!("{between:?} at index [1]; expected values within the range of bf16");
        assert_eq!(message(&mut rounded, "between", &[2]), range);
    }

    #[test]
    fn everything_is_rounded_to_bf16_where_asked() {
        let file = checkpoint(Tensors::from([("x".into(), ("F64", vec![1, 2], f64s(&[1.0 + 2f64.powi(-9), 0.1])))]));
        let want = [1.0, half::bf16::from_f64(0.1).to_f64()];
        let mut r = Reader::new(&file, Numbers { dtype: DType::F64, bf16_weights: true });
        assert_eq!(r.vector("x", &[1, 2]).unwrap().to_f64(), want);
        assert_eq!(r.mapped("x", &[1, 2]).unwrap().to_f64(), want);
    }
}
