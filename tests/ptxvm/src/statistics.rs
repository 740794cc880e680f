//! What a launch did, counted: instructions by class, bank conflicts, memory sectors. A lint, not a model of time.

use std::fmt;

/// The classes instructions are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Moves, integer arithmetic, logic, comparisons and selections.
    Integer,
    /// Floating point arithmetic but for fused multiply-add.
    Float,
    /// Fused multiply-add.
    FusedMultiplyAdd,
    /// Reciprocals, roots, exponentials and the other functions of the special function unit.
    Special,
    /// Conversions between types.
    Convert,
    /// Branches and exits.
    Control,
    /// Loads and stores of global memory, parameters left out.
    Global,
    /// Loads and stores of shared memory, `ldmatrix` included.
    Shared,
    /// Loads of parameters.
    Parameter,
    /// `cp.async` and its groups and waits.
    Copy,
    /// Atomics and reductions on memory.
    Atomic,
    /// Shuffles, votes, matches and warp reductions.
    Collective,
    /// `mma.sync`.
    Matrix,
    /// Barriers and fences.
    Barrier,
}

const CLASSES: usize = Class::Barrier as usize + 1;

/// Counts of one launch. An instruction counts once for each group of lanes of a warp that executes it together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Warp instructions, those whose guard no lane passes included.
    pub instructions: u64,
    classes: [u64; CLASSES],
    /// Shared memory wavefronts beyond the fewest an access of its size needs.
    pub bank_conflicts: u64,
    /// 32-byte sectors of global memory touched, summed over instructions.
    pub sectors: u64,
    /// The fewest sectors that could have held the same distinct bytes.
    pub sectors_least: u64,
    /// `mma.sync` instructions.
    pub matrix_products: u64,
    /// Barriers of a block that completed.
    pub barriers: u64,
}

impl Statistics {
    /// Warp instructions of one class.
    pub fn count(&self, class: Class) -> u64 {
        self.classes[class as usize]
    }

    pub(crate) fn add(&mut self, class: Class) {
        self.instructions += 1;
        self.classes[class as usize] += 1;
    }
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, more: Self) {
        self.instructions += more.instructions;
        self.classes.iter_mut().zip(more.classes).for_each(|(a, b)| *a += b);
        self.bank_conflicts += more.bank_conflicts;
        self.sectors += more.sectors;
        self.sectors_least += more.sectors_least;
        self.matrix_products += more.matrix_products;
        self.barriers += more.barriers;
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} warp instructions ({} fma, {} mma), {} barriers, {} extra shared wavefronts, {} sectors where {} would do",
            self.instructions,
            self.count(Class::FusedMultiplyAdd),
            self.matrix_products,
            self.barriers,
            self.bank_conflicts,
            self.sectors,
            self.sectors_least
        )
    }
}
