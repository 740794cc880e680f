//! Names of a kernel: registers, labels and symbols in nested scopes, and the places registers and constants get.

use std::collections::HashMap;

use crate::instruction::{Content, SINK, Slot};
use crate::types::Type;

/// A register as declared and used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register {
    pub ty: Type,
    pub slot: Slot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Symbol {
    /// Index into the shared variables.
    Shared(usize),
    /// Index into the parameters.
    Param(usize),
}

/// A `.shared` variable.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub align: u64,
    /// Bytes; `None` for the dynamic part.
    pub size: Option<u64>,
    pub used: bool,
}

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    registers: HashMap<String, (Type, Option<Slot>)>,
    labels: HashMap<String, u32>,
    symbols: HashMap<String, Symbol>,
}

/// The names and places of one kernel.
pub(crate) struct Names {
    scopes: Vec<Scope>,
    current: usize,
    pub contents: Vec<Content>,
    pub predicates: Vec<String>,
    constants: HashMap<u64, Slot>,
    pub shared: Vec<Shared>,
}

impl Names {
    /// Names with only the module's shared variables known.
    pub fn new(module: &[(String, Shared)]) -> Self {
        let symbols = module.iter().enumerate().map(|(index, (name, _))| (name.clone(), Symbol::Shared(index))).collect();
        Self {
            scopes: vec![Scope { symbols, ..Scope::default() }],
            current: 0,
            contents: Vec::new(),
            predicates: Vec::new(),
            constants: HashMap::new(),
            shared: module.iter().map(|(_, shared)| shared.clone()).collect(),
        }
    }

    pub fn open(&mut self) {
        self.scopes.push(Scope { parent: Some(self.current), ..Scope::default() });
        self.current = self.scopes.len() - 1;
    }

    /// Closes the current scope; false where only the outermost is left.
    pub fn close(&mut self) -> bool {
        let parent = self.scopes[self.current].parent;
        self.current = parent.unwrap_or(0);
        parent.is_some()
    }

    /// The scope new names go into, to resolve a label from later.
    pub fn current(&self) -> usize {
        self.current
    }

    fn inside_out(&self, scope: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(scope), |&scope| self.scopes[scope].parent)
    }

    fn is_new(&self, name: &str) -> Result<(), String> {
        let scope = &self.scopes[self.current];
        match scope.registers.contains_key(name) || scope.labels.contains_key(name) || scope.symbols.contains_key(name) {
            true => Err(format!("`{name}` is declared twice in one scope")),
            false => Ok(()),
        }
    }

    pub fn declare_register(&mut self, name: &str, ty: Type) -> Result<(), String> {
        self.is_new(name)?;
        self.scopes[self.current].registers.insert(name.into(), (ty, None));
        Ok(())
    }

    pub fn declare_label(&mut self, name: &str, target: u32) -> Result<(), String> {
        self.is_new(name)?;
        self.scopes[self.current].labels.insert(name.into(), target);
        Ok(())
    }

    pub fn declare_symbol(&mut self, name: &str, symbol: Symbol) -> Result<(), String> {
        self.is_new(name)?;
        self.scopes[self.current].symbols.insert(name.into(), symbol);
        Ok(())
    }

    pub fn declare_shared(&mut self, name: &str, shared: Shared) -> Result<(), String> {
        self.declare_symbol(name, Symbol::Shared(self.shared.len()))?;
        self.shared.push(shared);
        Ok(())
    }

    pub fn label(&self, scope: usize, name: &str) -> Option<u32> {
        self.inside_out(scope).find_map(|scope| self.scopes[scope].labels.get(name).copied())
    }

    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.inside_out(self.current).find_map(|scope| self.scopes[scope].symbols.get(name).copied())
    }

    /// The register of that name, with a place of its own from its first use on.
    pub fn register(&mut self, name: &str) -> Result<Option<Register>, String> {
        let found = self.inside_out(self.current).find(|&scope| self.scopes[scope].registers.contains_key(name));
        let Some(scope) = found else { return Ok(None) };
        let (ty, slot) = self.scopes[scope].registers[name];
        if let Some(slot) = slot {
            return Ok(Some(Register { ty, slot }));
        }
        let slot = if ty == Type::Pred {
            self.predicates.push(name.into());
            Self::checked(self.predicates.len() - 1)?
        } else {
            self.place(Content::Register(name.into()))?
        };
        self.scopes[scope].registers.insert(name.into(), (ty, Some(slot)));
        Ok(Some(Register { ty, slot }))
    }

    fn checked(index: usize) -> Result<Slot, String> {
        match Slot::try_from(index) {
            Ok(slot) if slot != SINK => Ok(slot),
            _ => Err(format!("the kernel needs more than {SINK} registers and constants")),
        }
    }

    /// A new place with this content.
    pub fn place(&mut self, content: Content) -> Result<Slot, String> {
        self.contents.push(content);
        Self::checked(self.contents.len() - 1)
    }

    /// The place of a constant.
    pub fn constant(&mut self, value: u64) -> Result<Slot, String> {
        if let Some(&slot) = self.constants.get(&value) {
            return Ok(slot);
        }
        let slot = self.place(Content::Constant(value))?;
        self.constants.insert(value, slot);
        Ok(slot)
    }

    /// The place of anything else that is no register.
    pub fn fixed(&mut self, content: Content) -> Result<Slot, String> {
        if let Content::Shared(index, _) = content {
            self.shared[index].used = true;
        }
        match self.contents.iter().position(|known| *known == content) {
            Some(index) => Self::checked(index),
            None => self.place(content),
        }
    }
}
