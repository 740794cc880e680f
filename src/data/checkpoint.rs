//! The state of a pass on disk, so that a killed run goes on from where it was.
//!
//! A file holds the complete subtrees of the sums over the blocks done so far. It is replaced
//! atomically; whoever owns the folder sees to it that only the same work finds it again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use super::stream::Sum;
use super::tree::{Subtree, Tree};
use crate::error::{Error, Result};
use crate::files;

/// Where checkpoints go and how often they are written.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    pub folder: PathBuf,
    pub every: Duration,
}

/// The checkpoint of one pass.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    every: Duration,
    last: Instant,
}

impl Checkpoints {
    /// The checkpoint of the pass `name`, with the tree to go on from: an empty one if there is none
    /// that can be read.
    pub fn open(&self, name: &str) -> (Writer, Tree<Vec<Sum>>) {
        let path = self.folder.join(format!("{}.safetensors", name.replace([' ', '/'], "_")));
        // A damaged checkpoint costs time, not correctness: the pass starts anew.
        let tree = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        (Writer { path, every: self.every, last: Instant::now() }, tree)
    }
}

impl Writer {
    /// Writes the tree if it is time, or if the pass is done and took long enough to be worth it.
    pub fn save(&mut self, tree: &Tree<Vec<Sum>>) -> Result<()> {
        if self.last.elapsed() < self.every {
            return Ok(());
        }
        let bytes = encode(tree, &self.path)?;
        replace(&self.path, &bytes)?;
        self.last = Instant::now();
        Ok(())
    }
}

/// Writes a file, in the place of the one before: a reader finds that one, none, or the new one, but never a
/// piece. Makes its folder.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "creating the folder", e))?;
    }
    files::write(path, |file| file.write_all(bytes))
}

fn encode(tree: &Tree<Vec<Sum>>, path: &Path) -> Result<Vec<u8>> {
    let mut parts: Vec<(String, Vec<f64>)> = Vec::new();
    for (t, subtree) in tree.subtrees().iter().enumerate() {
        for (s, sum) in subtree.sum.iter().enumerate() {
            match sum {
                Sum::Add(x) => parts.push((format!("{t}.{s}.add"), x.clone())),
                Sum::Centred { n, mean, m2 } => {
                    parts.push((format!("{t}.{s}.n"), vec![*n]));
                    parts.push((format!("{t}.{s}.mean"), mean.clone()));
                    parts.push((format!("{t}.{s}.m2"), m2.clone()));
                }
            }
        }
    }
    let places: Vec<String> = tree.subtrees().iter().map(|s| format!("{}:{}:{}", s.first, s.level, s.sum.len())).collect();
    let meta = HashMap::from([("subtrees".to_string(), places.join(","))]);
    let wrong = |e: safetensors::SafeTensorError| Error::file(path, e.to_string(), "sums that can be stored");
    let views = parts.iter().map(|(name, x)| {
        let view = TensorView::new(Dtype::F64, vec![x.len()], bytemuck::cast_slice(x)).map_err(wrong)?;
        Ok((name, view))
    });
    serialize(views.collect::<Result<Vec<_>>>()?, Some(meta)).map_err(wrong)
}

fn decode(bytes: &[u8]) -> Option<Tree<Vec<Sum>>> {
    let (_, meta) = SafeTensors::read_metadata(bytes).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let part = |name: String| -> Option<Vec<f64>> {
        let view = file.tensor(&name).ok()?;
        Some(bytemuck::allocation::pod_collect_to_vec(view.data()))
    };
    let places = meta.metadata().as_ref()?.get("subtrees")?.clone();
    let mut subtrees = Vec::new();
    for (t, place) in places.split(',').enumerate() {
        let numbers: Vec<usize> = place.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [first, level, sums] = numbers[..] else { return None };
        let sum = (0..sums).map(|s| match part(format!("{t}.{s}.add")) {
            Some(x) => Some(Sum::Add(x)),
            None => Some(Sum::Centred {
                n: *part(format!("{t}.{s}.n"))?.first()?,
                mean: part(format!("{t}.{s}.mean"))?,
                m2: part(format!("{t}.{s}.m2"))?,
            }),
        });
        subtrees.push(Subtree { first, level: u32::try_from(level).ok()?, sum: sum.collect::<Option<_>>()? });
    }
    Tree::from_subtrees(subtrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(i: usize) -> Vec<Sum> {
        let x = i as f64;
        vec![Sum::Add(vec![x, 0.1 * x]), Sum::Centred { n: 3.0, mean: vec![x.sin()], m2: vec![x.cos()] }]
    }

    #[test]
    fn a_pass_goes_on_with_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let points = Checkpoints { folder: dir.path().join("deep"), every: Duration::ZERO };
        let mut whole = Tree::default();
        (0..13).for_each(|i| whole.push(block(i)));
        let (mut writer, mut tree) = points.open("moments ln1.0");
        assert_eq!(tree.done(), 0);
        for i in 0..7 {
            tree.push(block(i));
            writer.save(&tree).unwrap();
        }
        let (_, mut again) = points.open("moments ln1.0");
        assert_eq!(again.done(), 7);
        (7..13).for_each(|i| again.push(block(i)));
        assert_eq!(format!("{:?}", again.finish()), format!("{:?}", whole.finish()));
    }

    #[test]
    fn a_damaged_checkpoint_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let points = Checkpoints { folder: dir.path().into(), every: Duration::ZERO };
        let (mut writer, mut tree) = points.open("edges");
        tree.push(block(0));
        writer.save(&tree).unwrap();
        let path = dir.path().join("edges.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        for end in [0, 7, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert_eq!(points.open("edges").1.done(), 0);
        }
    }
}
