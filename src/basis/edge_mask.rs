//! Which edges of a section an ablation keeps, and which outputs may share a run (`lib.md` 3.2).

use std::collections::HashMap;

use faer::Mat;

/// The input features that each output feature is computed from, outputs with the same ones together.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeMask {
    /// Distinct rows `[masks][k_in]`: whether the input feature is kept.
    pub masks: Vec<Vec<bool>>,
    /// `[k_out]`: the mask of each output feature.
    pub owners: Vec<usize>,
}

impl EdgeMask {
    /// Keeps the `count` largest entries of `e` `[k_out, k_in]`, and all that equal the smallest of
    /// them. With `constant` the edges from feature 0, the constant, are kept and not counted.
    pub fn new(e: &Mat<f64>, count: usize, constant: bool) -> Self {
        let free = usize::from(constant);
        let mut values: Vec<f64> = (0..e.nrows()).flat_map(|i| (free..e.ncols()).map(move |j| e[(i, j)])).collect();
        let threshold = match count {
            0 => f64::INFINITY,
            _ if count >= values.len() => f64::NEG_INFINITY,
            _ => *values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1,
        };
        let (mut masks, mut index) = (Vec::new(), HashMap::new());
        let owners = (0..e.nrows()).map(|i| {
            let row: Vec<bool> = (0..e.ncols()).map(|j| j < free || e[(i, j)] >= threshold).collect();
            *index.entry(row).or_insert_with_key(|row| {
                masks.push(row.clone());
                masks.len() - 1
            })
        });
        let owners = owners.collect();
        Self { masks, owners }
    }
    /// Whether output feature `i` is computed from input feature `j`.
    pub fn keeps(&self, i: usize, j: usize) -> bool {
        self.masks[self.owners[i]][j]
    }
    /// The input features that any output needs, rising.
    pub fn used(&self) -> Vec<usize> {
        let width = self.masks.first().map_or(0, Vec::len);
        (0..width).filter(|&j| self.masks.iter().any(|m| m[j])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct values in no order, the largest on the diagonal.
    fn edges(n: usize) -> Mat<f64> {
        Mat::from_fn(n, n, |i, j| ((i * n + j) * 7 % (n * n)) as f64 + if i == j { 1000.0 } else { 0.0 })
    }
    fn kept(m: &EdgeMask, from: usize) -> usize {
        (0..m.owners.len()).map(|i| (from..m.masks[0].len()).filter(|&j| m.keeps(i, j)).count()).sum()
    }

    #[test]
    fn b32_all_none_and_the_largest() {
        let e = edges(5);
        for (count, constant) in [(25, false), (26, false), (20, true), (99, true)] {
            let all = EdgeMask::new(&e, count, constant);
            assert_eq!((kept(&all, 0), all.masks.len()), (25, 1), "{count}");
        }
        let none = EdgeMask::new(&e, 0, false);
        assert_eq!((kept(&none, 0), none.masks.len(), none.used()), (0, 1, vec![]));
        let diagonal = EdgeMask::new(&e, 5, false);
        assert!((0..5).all(|i| diagonal.keeps(i, i)));
        assert_eq!((kept(&diagonal, 0), diagonal.owners.clone()), (5, vec![0, 1, 2, 3, 4]));
        for count in 0..25 {
            assert_eq!(kept(&EdgeMask::new(&e, count, false), 0), count);
        }
    }

    #[test]
    fn b32_edges_from_the_constant_are_kept_and_not_counted() {
        let e = edges(5);
        for count in 0..=20 {
            let m = EdgeMask::new(&e, count, true);
            assert!((0..5).all(|i| m.keeps(i, 0)));
            assert_eq!(kept(&m, 1), count);
        }
        // The largest of column 0 is the largest of all; it counts only without the constant.
        let first = EdgeMask::new(&e, 4, true);
        assert!((1..5).all(|i| first.keeps(i, i)));
    }

    #[test]
    fn equal_edges_stand_or_fall_together() {
        let e = Mat::from_fn(2, 3, |i, j| [[3.0, 1.0, 1.0], [1.0, 0.0, -2.0]][i][j]);
        let ties = EdgeMask::new(&e, 2, false);
        assert_eq!(ties.masks, [vec![true, true, true], vec![true, false, false]]);
        assert_eq!(EdgeMask::new(&e, 5, false).masks[1], [true, true, false]);
        assert_eq!(EdgeMask::new(&e, 1, false).used(), [0]);
    }

    #[test]
    fn outputs_with_the_same_inputs_share_a_mask() {
        let e = Mat::from_fn(4, 3, |i, j| [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]][i][j]);
        let m = EdgeMask::new(&e, 3, false);
        assert_eq!((m.owners.clone(), m.masks.len()), (vec![0, 1, 0, 2], 3));
        assert_eq!(m.used(), [0, 1]);
    }
}
