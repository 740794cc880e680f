//! Patterns made more general where a wildcard stands beside literals.

use super::{Node, START, Trie, WILDCARD};

impl Trie {
    /// The reference's merge (`n2g.md` 1.5), level by level: where a node has a wildcard child, what follows
    /// its other children may follow the wildcard too, and of those children only the ones that complete a
    /// pattern stay, with what follows them.
    pub fn merge_wildcards(&mut self) {
        let (mut order, mut next) = (vec![0u32], 0);
        while let Some(&node) = order.get(next) {
            if let Some(wildcard) = self.child(node, WILDCARD) {
                for child in self.nodes[node as usize].children.clone().into_iter().filter(|&child| child != wildcard) {
                    self.copy_below(child, wildcard);
                }
                let stays = |child: &u32| {
                    let Node { key, end, .. } = &self.nodes[*child as usize];
                    matches!(*key, WILDCARD | START) || end.is_some()
                };
                let children = self.nodes[node as usize].children.iter().copied().filter(stays).collect();
                self.nodes[node as usize].children = children;
            }
            order.extend_from_slice(&self.nodes[node as usize].children);
            next += 1;
        }
        *self = self.renumbered(|_| ());
    }
    /// Adds all that is below `from` below `to`, where what is there already wins.
    fn copy_below(&mut self, from: u32, to: u32) {
        let mut open = vec![(from, to)];
        while let Some((from, to)) = open.pop() {
            for child in self.nodes[from as usize].children.clone() {
                let Node { key, end, .. } = self.nodes[child as usize];
                let copy = Node { children: Vec::new(), ..self.nodes[child as usize].clone() };
                let target = self.child_or_new(to, key, || copy);
                let known = &mut self.nodes[target as usize].end;
                *known = known.or(end);
                open.push((child, target));
            }
        }
    }
}
