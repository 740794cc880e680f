//! The grammar around instructions: module and kernel directives, declarations, scopes, labels, guards and branches.

use std::sync::Arc;

use crate::decode::{Decoder, Opcode};
use crate::fault::ParseError;
use crate::instruction::{Condition, Content, Instruction, Op};
use crate::lexer::{self, Token};
use crate::module::{Kernel, Module, Param};
use crate::operand::{Cursor, Operand};
use crate::scope::{Names, Shared, Symbol};
use crate::shared;
use crate::statistics::Class;
use crate::types::Type;

/// Directives whose line is skipped up to its semicolon or its end.
fn skip_debug(cursor: &mut Cursor) {
    let line = cursor.line();
    while cursor.line() == line && *cursor.peek() != Token::End {
        cursor.next();
    }
}

/// Attaches the line to a message from decoding.
fn at<T>(line: usize, result: Result<T, String>) -> Result<T, ParseError> {
    result.map_err(|message| ParseError { line, message })
}

pub(crate) fn parse(text: &str) -> Result<Module, ParseError> {
    let mut cursor = Cursor::new(lexer::tokens(text)?);
    let mut module = Module { version: String::new(), target: String::new(), kernels: Vec::new() };
    let mut variables = Vec::new();
    let lines: Arc<[String]> = text.lines().map(|line| line.trim().to_string()).collect();
    loop {
        let line = cursor.line();
        if *cursor.peek() == Token::End {
            break;
        }
        let word = cursor.word("a directive")?;
        match word.as_str() {
            ".version" => module.version = version(&mut cursor)?,
            ".target" => {
                module.target = cursor.word("a target such as sm_80")?;
                while cursor.accept(',') {
                    cursor.word("a target option")?;
                }
                if capability(&module.target).is_none() {
                    return Err(ParseError {
                        line,
                        message: format!("found the target `{}`; expected sm_80 or the like", module.target),
                    });
                }
            }
            ".address_size" => {
                let size = cursor.count()?;
                if size != 64 {
                    return Err(ParseError { line, message: format!("found .address_size {size}; expected 64") });
                }
            }
            ".file" | ".loc" => skip_debug(&mut cursor),
            ".pragma" => pragma(&mut cursor)?,
            ".visible" | ".extern" | ".weak" => {}
            ".entry" => {
                if module.version.is_empty() || module.target.is_empty() {
                    return Err(ParseError { line, message: "found .entry before .version and .target".into() });
                }
                let kernel = entry(&mut cursor, &variables, &module.target, &lines)?;
                if module.kernel(&kernel.name).is_some() {
                    return Err(ParseError { line, message: format!("the entry `{}` is declared twice", kernel.name) });
                }
                module.kernels.push(Arc::new(kernel));
            }
            ".shared" => {
                for (name, variable) in shared_variables(&mut cursor)? {
                    if variables.iter().any(|(known, _)| *known == name) {
                        return Err(ParseError { line, message: format!("`{name}` is declared twice") });
                    }
                    variables.push((name, variable));
                }
            }
            _ => return Err(ParseError { line, message: format!("`{word}` is not supported at module level") }),
        }
    }
    match module.version.is_empty() || module.target.is_empty() {
        true => cursor.error("the module lacks .version or .target"),
        false => Ok(module),
    }
}

fn version(cursor: &mut Cursor) -> Result<String, ParseError> {
    match cursor.next() {
        Token::Float(value) => Ok(format!("{value:.1}")),
        other => cursor.error(format!("found {other} as .version; expected such as 7.0")),
    }
}

/// Major, minor and whether code for the target runs on nothing else (`a`), of `sm_90a`.
pub(crate) fn capability(target: &str) -> Option<((u32, u32), bool)> {
    let number = target.strip_prefix("sm_")?;
    let (digits, specific) = number.strip_suffix('a').map_or((number, false), |digits| (digits, true));
    let number: u32 = digits.parse().ok()?;
    Some(((number / 10, number % 10), specific))
}

fn pragma(cursor: &mut Cursor) -> Result<(), ParseError> {
    match cursor.next() {
        Token::Text(_) => cursor.expect(';'),
        other => cursor.error(format!("found {other} as .pragma; expected a string")),
    }
}

/// What follows `.shared`: alignment, type, and names with their lengths.
fn shared_variables(cursor: &mut Cursor) -> Result<Vec<(String, Shared)>, ParseError> {
    let mut align = None;
    if cursor.accept_word(".align") {
        align = Some(u64::from(cursor.count()?));
    }
    let line = cursor.line();
    let name = cursor.word("a type")?;
    let ty = name.strip_prefix('.').and_then(Type::parse).filter(|ty| ty.bytes() > 0);
    let Some(ty) = ty else {
        return Err(ParseError { line, message: format!("found `{name}`; expected the type of a variable") });
    };
    let element = u64::from(ty.bytes());
    let align = align.unwrap_or(element);
    if !align.is_power_of_two() || align < element {
        return Err(ParseError { line, message: format!("found .align {align}; expected a power of two, at least {element}") });
    }
    let mut variables = Vec::new();
    loop {
        let name = cursor.word("the name of a variable")?;
        let mut size = Some(element);
        while cursor.accept('[') {
            if cursor.accept(']') {
                size = None;
                break;
            }
            let length = u64::from(cursor.count()?);
            size = size.and_then(|size| size.checked_mul(length));
            cursor.expect(']')?;
        }
        variables.push((name, Shared { align, size, used: false }));
        if !cursor.accept(',') {
            cursor.expect(';')?;
            return Ok(variables);
        }
    }
}

fn parameters(cursor: &mut Cursor) -> Result<Vec<Param>, ParseError> {
    let mut params: Vec<Param> = Vec::new();
    if !cursor.accept('(') || cursor.accept(')') {
        return Ok(params);
    }
    let mut end = 0u32;
    loop {
        let line = cursor.line();
        if !cursor.accept_word(".param") {
            return cursor.error(format!("found {}; expected .param", cursor.peek()));
        }
        let mut align = None;
        if cursor.accept_word(".align") {
            align = Some(cursor.count()?);
        }
        let word = cursor.word("a type")?;
        let ty = word.strip_prefix('.').and_then(Type::parse).filter(|ty| ty.bytes() > 0);
        let Some(ty) = ty else {
            return Err(ParseError { line, message: format!("found `{word}`; expected the type of a parameter") });
        };
        let name = cursor.word("the name of a parameter")?;
        let mut size = ty.bytes();
        if cursor.accept('[') {
            size = size.saturating_mul(cursor.count()?);
            cursor.expect(']')?;
        }
        let align = align.unwrap_or(ty.bytes());
        if !align.is_power_of_two() || size > 32_764 {
            return Err(ParseError { line, message: format!("the parameter `{name}` has alignment {align} and {size} bytes") });
        }
        let offset = end.next_multiple_of(align);
        end = offset + size;
        params.push(Param { name, offset, size, align });
        if !cursor.accept(',') {
            cursor.expect(')')?;
            return Ok(params);
        }
    }
}

/// One to three counts, multiplied; the missing ones are 1.
fn extents(cursor: &mut Cursor) -> Result<[u32; 3], ParseError> {
    let mut extents = [1; 3];
    extents[0] = cursor.count()?;
    for extent in &mut extents[1..] {
        if !cursor.accept(',') {
            break;
        }
        *extent = cursor.count()?;
    }
    Ok(extents)
}

fn entry(cursor: &mut Cursor, variables: &[(String, Shared)], target: &str, lines: &Arc<[String]>) -> Result<Kernel, ParseError> {
    let name = cursor.word("the name of the entry")?;
    let params = parameters(cursor)?;
    let (mut required, mut most) = (None, None);
    while !cursor.accept('{') {
        let line = cursor.line();
        match cursor.word("`{` or a directive of the entry")?.as_str() {
            ".reqntid" => required = Some(extents(cursor)?),
            ".maxntid" => most = Some(extents(cursor)?),
            ".minnctapersm" | ".maxnreg" => {
                cursor.count()?;
            }
            ".pragma" => pragma(cursor)?,
            other => return Err(ParseError { line, message: format!("`{other}` is not supported on an entry") }),
        }
    }
    let mut names = Names::new(variables);
    names.open();
    for (index, param) in params.iter().enumerate() {
        at(cursor.line(), names.declare_symbol(&param.name, Symbol::Param(index)))?;
    }
    let mut body = Body { cursor, decoder: Decoder { names, params: &params }, code: Vec::new(), branches: Vec::new() };
    let end = body.run()?;
    let Body { decoder: Decoder { mut names, .. }, mut code, branches, .. } = body;
    code.push(Instruction { guard: None, op: Op::Exit, class: Class::Control, line: end as u32 });
    for branch in branches {
        let Some(target) = names.label(branch.scope, &branch.label) else {
            return Err(ParseError { line: branch.line, message: format!("the label `{}` is not declared", branch.label) });
        };
        if let Op::Branch { target: place, .. } = &mut code[branch.instruction].op {
            *place = target;
        }
    }
    let (static_shared, addresses) = shared::layout(&names.shared);
    for content in &mut names.contents {
        if let Content::Shared(index, offset) = *content {
            *content = Content::Constant(addresses[index].wrapping_add(offset));
        }
    }
    let smallest_access = code.iter().filter_map(smallest).min().unwrap_or(4);
    Ok(Kernel {
        name,
        params,
        static_shared,
        required,
        most,
        target: target.into(),
        contents: names.contents,
        predicates: names.predicates,
        code,
        smallest_access,
        lines: lines.clone(),
    })
}

/// Bytes of an element of a memory access that is smaller than four.
fn smallest(instruction: &Instruction) -> Option<u32> {
    match &instruction.op {
        Op::Load(access) | Op::Store(access) => Some((access.ty.bytes() * u32::from(access.count)).min(4)),
        _ => None,
    }
}

struct Branch {
    instruction: usize,
    scope: usize,
    label: String,
    line: usize,
}

/// The statements of a kernel.
struct Body<'c, 'p> {
    cursor: &'c mut Cursor,
    decoder: Decoder<'p>,
    code: Vec<Instruction>,
    branches: Vec<Branch>,
}

impl Body<'_, '_> {
    /// Parses up to the brace that closes the kernel, and returns its line.
    fn run(&mut self) -> Result<usize, ParseError> {
        let outermost = self.decoder.names.current();
        loop {
            let line = self.cursor.line();
            if self.cursor.accept('{') {
                self.decoder.names.open();
            } else if self.cursor.accept('}') {
                if self.decoder.names.current() == outermost {
                    return Ok(line);
                }
                self.decoder.names.close();
            } else if self.cursor.accept(';') {
                // An empty statement.
            } else {
                self.statement(line)?;
            }
        }
    }

    fn statement(&mut self, line: usize) -> Result<(), ParseError> {
        let label = matches!((self.cursor.peek(), self.cursor.peek_second()), (Token::Word(_), Token::Symbol(':')));
        if label {
            let name = self.cursor.word("a label")?;
            self.cursor.expect(':')?;
            return at(line, self.decoder.names.declare_label(&name, self.code.len() as u32));
        }
        let guard = if self.cursor.accept('@') { Some(self.guard()?) } else { None };
        let word = self.cursor.word("an instruction or directive")?;
        match word.as_str() {
            ".reg" => self.registers(line),
            ".shared" => {
                for (name, variable) in shared_variables(self.cursor)? {
                    at(line, self.decoder.names.declare_shared(&name, variable))?;
                }
                Ok(())
            }
            ".pragma" => pragma(self.cursor),
            ".loc" | ".file" => {
                skip_debug(self.cursor);
                Ok(())
            }
            _ if word.starts_with('.') => Err(ParseError { line, message: format!("`{word}` is not supported in a kernel") }),
            _ => self.instruction(line, guard, &word),
        }
    }

    fn guard(&mut self) -> Result<Condition, ParseError> {
        match self.cursor.operand(&mut self.decoder.names)? {
            Operand::Predicate(condition) => Ok(condition),
            other => self.cursor.error(format!("found {} as guard; expected a predicate", other.describe())),
        }
    }

    /// What follows `.reg`: a type and names or banks of names.
    fn registers(&mut self, line: usize) -> Result<(), ParseError> {
        let name = self.cursor.word("a type")?;
        let ty =
            name.strip_prefix('.').and_then(Type::parse).filter(|ty| !matches!(ty, Type::B8 | Type::U8 | Type::S8 | Type::Tf32));
        let Some(ty) = ty else {
            return Err(ParseError { line, message: format!("found `{name}`; expected the type of a register") });
        };
        loop {
            let name = self.cursor.word("the name of a register")?;
            if self.cursor.accept('<') {
                let count = self.cursor.count()?;
                self.cursor.expect('>')?;
                if count > 65_536 {
                    return Err(ParseError { line, message: format!("a bank of {count} registers; expected at most 65536") });
                }
                for index in 0..count {
                    at(line, self.decoder.names.declare_register(&format!("{name}{index}"), ty))?;
                }
            } else {
                at(line, self.decoder.names.declare_register(&name, ty))?;
            }
            if !self.cursor.accept(',') {
                return self.cursor.expect(';');
            }
        }
    }

    fn instruction(&mut self, line: usize, guard: Option<Condition>, opcode: &str) -> Result<(), ParseError> {
        let mut operands = Vec::new();
        if *self.cursor.peek() != Token::Symbol(';') {
            operands.push(self.cursor.operand(&mut self.decoder.names)?);
            while self.cursor.accept(',') {
                operands.push(self.cursor.operand(&mut self.decoder.names)?);
            }
        }
        self.cursor.expect(';')?;
        let (op, class) = match Opcode::new(opcode).mnemonic {
            "bra" => (self.branch(line, opcode, &operands)?, Class::Control),
            _ => at(line, self.decoder.decode(opcode, &operands))?,
        };
        self.code.push(Instruction { guard, op, class, line: line as u32 });
        Ok(())
    }

    fn branch(&mut self, line: usize, opcode: &str, operands: &[Operand]) -> Result<Op, ParseError> {
        let uniform = opcode == "bra.uni";
        match operands {
            [Operand::Label(label)] if uniform || opcode == "bra" => {
                let scope = self.decoder.names.current();
                self.branches.push(Branch { instruction: self.code.len(), scope, label: label.clone(), line });
                Ok(Op::Branch { target: 0, uniform })
            }
            _ => {
                Err(ParseError { line, message: format!("`{opcode}` with these operands; expected bra or bra.uni and a label") })
            }
        }
    }
}
