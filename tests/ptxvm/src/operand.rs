//! Operands as the text has them, and the cursor over tokens that reads them: registers, literals and constant
//! expressions, vectors, addresses, symbols, special registers.

use crate::fault::ParseError;
use crate::instruction::{Condition, Special};
use crate::lexer::{Located, Token};
use crate::scope::{Names, Register, Symbol};
use crate::types::Type;

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Register(Register),
    Predicate(Condition),
    /// `d|p`
    Pair(Box<(Operand, Operand)>),
    Integer(i128),
    Float(f64),
    Vector(Vec<Operand>),
    Address(Base, i64),
    /// The address of a symbol plus an offset.
    Symbol(Symbol, i64),
    Special(Special),
    /// `_`
    Sink,
    /// A name that is none of the above.
    Label(String),
}

/// What an address starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Register(Register),
    Symbol(Symbol),
    Absolute,
}

impl Operand {
    /// What kind of operand this is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Register(register) => format!("a .{} register", register.ty.name()),
            Self::Predicate(_) => "a predicate".into(),
            Self::Pair(_) => "a pair".into(),
            Self::Integer(value) => format!("the integer {value}"),
            Self::Float(value) => format!("the float {value}"),
            Self::Vector(elements) => format!("a vector of {}", elements.len()),
            Self::Address(..) => "an address".into(),
            Self::Symbol(..) => "the address of a variable".into(),
            Self::Special(_) => "a special register".into(),
            Self::Sink => "`_`".into(),
            Self::Label(name) => format!("`{name}`, which is not declared here"),
        }
    }
}

/// Whether a name is one of a special register, whose parts a register of that name would hide.
pub(crate) fn is_special(name: &str) -> bool {
    special(name).is_some() || special(&format!("{name}.x")).is_some()
}

fn special(name: &str) -> Option<Special> {
    let (base, axis) = match name.split_once('.') {
        Some((base, "x")) => (base, 0),
        Some((base, "y")) => (base, 1),
        Some((base, "z")) => (base, 2),
        Some(_) => return None,
        None => (name, u8::MAX),
    };
    let one = |special| (axis == u8::MAX).then_some(special);
    match base {
        "%tid" if axis < 3 => Some(Special::Tid(axis)),
        "%ntid" if axis < 3 => Some(Special::Ntid(axis)),
        "%ctaid" if axis < 3 => Some(Special::Ctaid(axis)),
        "%nctaid" if axis < 3 => Some(Special::Nctaid(axis)),
        "%laneid" => one(Special::Lane),
        "%warpid" => one(Special::Warp),
        "%nwarpid" => one(Special::Warps),
        "%smid" => one(Special::Processor),
        "%lanemask_eq" => one(Special::LaneMaskEq),
        "%lanemask_le" => one(Special::LaneMaskLe),
        "%lanemask_lt" => one(Special::LaneMaskLt),
        "%lanemask_ge" => one(Special::LaneMaskGe),
        "%lanemask_gt" => one(Special::LaneMaskGt),
        "%clock" => one(Special::Clock),
        "%clock64" => one(Special::Clock64),
        _ => None,
    }
}

/// A cursor over the tokens of a text.
pub(crate) struct Cursor {
    tokens: Vec<Located>,
    at: usize,
}

impl Cursor {
    pub fn new(tokens: Vec<Located>) -> Self {
        Self { tokens, at: 0 }
    }

    pub fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    pub fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    pub fn line(&self) -> usize {
        self.tokens[self.at].line
    }

    /// Takes the next token; the end stays where it is.
    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line(), message: message.into() })
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, ParseError> {
        self.error(format!("found {}; expected {expected}", self.peek()))
    }

    pub fn accept(&mut self, symbol: char) -> bool {
        let found = *self.peek() == Token::Symbol(symbol);
        if found {
            self.next();
        }
        found
    }

    pub fn expect(&mut self, symbol: char) -> Result<(), ParseError> {
        if self.accept(symbol) { Ok(()) } else { self.unexpected(&format!("`{symbol}`")) }
    }

    /// Takes the word `word` if it is next.
    pub fn accept_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(found) if found == word);
        if found {
            self.next();
        }
        found
    }

    pub fn word(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.peek() {
            Token::Word(_) => match self.next() {
                Token::Word(word) => Ok(word),
                _ => self.unexpected(expected),
            },
            _ => self.unexpected(expected),
        }
    }

    /// A constant expression of integers, evaluated exactly and then brought into 64 bits.
    pub fn expression(&mut self) -> Result<i128, ParseError> {
        self.binary(0)
    }

    /// A constant expression that must fit `u32`.
    pub fn count(&mut self) -> Result<u32, ParseError> {
        let value = self.expression()?;
        match u32::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => self.error(format!("found {value}; expected a count of 32 bits")),
        }
    }

    fn operator(&self) -> Option<(char, u8)> {
        match *self.peek() {
            Token::Symbol('|') => Some(('|', 1)),
            Token::Symbol('^') => Some(('^', 2)),
            Token::Symbol('&') => Some(('&', 3)),
            Token::Shift(direction) => Some((direction, 4)),
            Token::Symbol(c @ ('+' | '-')) => Some((c, 5)),
            Token::Symbol(c @ ('*' | '/' | '%')) => Some((c, 6)),
            _ => None,
        }
    }

    fn binary(&mut self, above: u8) -> Result<i128, ParseError> {
        let mut left = self.unary()?;
        while let Some((operator, strength)) = self.operator().filter(|&(_, strength)| strength > above) {
            self.next();
            let right = self.binary(strength)?;
            let shift = u32::try_from(right).unwrap_or(64).min(64);
            let value = match operator {
                '|' => Some(left | right),
                '^' => Some(left ^ right),
                '&' => Some(left & right),
                '<' => left.checked_mul(1 << shift),
                '>' => Some(left >> shift),
                '+' => left.checked_add(right),
                '-' => left.checked_sub(right),
                '*' => left.checked_mul(right),
                '/' => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            left = match value {
                Some(value) if (-(1i128 << 64)..1 << 64).contains(&value) => value,
                _ => return self.error(format!("`{left} {operator} {right}` has no value of 64 bits")),
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i128, ParseError> {
        match *self.peek() {
            Token::Integer(value) => {
                self.next();
                Ok(value)
            }
            Token::Symbol('-') => {
                self.next();
                Ok(-self.unary()?)
            }
            Token::Symbol('+') => {
                self.next();
                self.unary()
            }
            Token::Symbol('~') => {
                self.next();
                Ok(!self.unary()?)
            }
            Token::Symbol('(') => {
                self.next();
                let value = self.binary(0)?;
                self.expect(')')?;
                Ok(value)
            }
            _ => self.unexpected("an integer"),
        }
    }

    /// `+ expression`, where it is there.
    fn offset(&mut self) -> Result<i64, ParseError> {
        if !self.accept('+') {
            return Ok(0);
        }
        let value = self.expression()?;
        match i64::try_from(value) {
            Ok(value) => Ok(value),
            Err(_) => self.error(format!("found the offset {value}; expected one of 64 bits")),
        }
    }

    fn named(&mut self, names: &mut Names) -> Result<Operand, ParseError> {
        let line = self.line();
        let word = self.word("an operand")?;
        if word == "_" {
            return Ok(Operand::Sink);
        }
        if let Some(register) = names.register(&word).map_err(|message| ParseError { line, message })? {
            return Ok(match register.ty {
                Type::Pred => Operand::Predicate(Condition { predicate: register.slot, negated: false }),
                _ => Operand::Register(register),
            });
        }
        if let Some(special) = special(&word) {
            return Ok(Operand::Special(special));
        }
        match names.symbol(&word) {
            Some(symbol) => Ok(Operand::Symbol(symbol, self.offset()?)),
            None => Ok(Operand::Label(word)),
        }
    }

    fn address(&mut self, names: &mut Names) -> Result<Operand, ParseError> {
        if !matches!(self.peek(), Token::Word(_)) {
            let value = self.expression()?;
            self.expect(']')?;
            return match i64::try_from(value) {
                Ok(value) => Ok(Operand::Address(Base::Absolute, value)),
                Err(_) => self.error(format!("found the address {value}; expected one of 64 bits")),
            };
        }
        let (base, offset) = match self.named(names)? {
            Operand::Register(register) => (Base::Register(register), self.offset()?),
            Operand::Symbol(symbol, offset) => (Base::Symbol(symbol), offset),
            other => return self.error(format!("found {} as an address; expected a register or a variable", other.describe())),
        };
        self.expect(']')?;
        Ok(Operand::Address(base, offset))
    }

    /// One operand.
    pub fn operand(&mut self, names: &mut Names) -> Result<Operand, ParseError> {
        match self.peek().clone() {
            Token::Symbol('[') => {
                self.next();
                self.address(names)
            }
            Token::Symbol('{') => {
                self.next();
                let mut elements = vec![self.operand(names)?];
                while self.accept(',') {
                    elements.push(self.operand(names)?);
                }
                self.expect('}')?;
                Ok(Operand::Vector(elements))
            }
            Token::Symbol('!') => {
                self.next();
                match self.named(names)? {
                    Operand::Predicate(condition) => Ok(Operand::Predicate(Condition { negated: true, ..condition })),
                    other => self.error(format!("found `!` before {}; expected a predicate", other.describe())),
                }
            }
            Token::Float(value) => {
                self.next();
                Ok(Operand::Float(value))
            }
            Token::Symbol('-') if matches!(self.peek_second(), Token::Float(_)) => {
                self.next();
                match self.next() {
                    Token::Float(value) => Ok(Operand::Float(-value)),
                    other => self.error(format!("found {other}; expected a float")),
                }
            }
            Token::Word(_) => {
                let first = self.named(names)?;
                if self.accept('|') {
                    let second = self.named(names)?;
                    return Ok(Operand::Pair(Box::new((first, second))));
                }
                Ok(first)
            }
            _ => Ok(Operand::Integer(self.expression()?)),
        }
    }
}
