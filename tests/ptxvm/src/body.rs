//! The statements of an entry: scopes, labels, register declarations, guards, instructions and branches.

use crate::decode::{Decoder, Opcode};
use crate::fault::ParseError;
use crate::instruction::{Condition, Instruction, Op};
use crate::lexer::Token;
use crate::module::Param;
use crate::operand::{Cursor, Operand, is_special};
use crate::parser::{at, pragma, shared_variables, skip_debug};
use crate::scope::Names;
use crate::statistics::Class;
use crate::types::Type;

/// Parses and decodes up to the brace that closes the entry, where an exit is put.
pub(crate) fn parse(cursor: &mut Cursor, names: Names, params: &[Param]) -> Result<(Names, Vec<Instruction>), ParseError> {
    let mut body = Body { cursor, decoder: Decoder { names, params }, code: Vec::new(), branches: Vec::new() };
    let end = body.run()?;
    let Body { decoder: Decoder { names, .. }, mut code, branches, .. } = body;
    code.push(Instruction { guard: None, op: Op::Exit, class: Class::Control, line: end as u32 });
    for branch in branches {
        let Some(target) = names.label(branch.scope, &branch.label) else {
            return Err(ParseError { line: branch.line, message: format!("the label `{}` is not declared", branch.label) });
        };
        if let Op::Branch { target: place, .. } = &mut code[branch.instruction].op {
            *place = target;
        }
    }
    Ok((names, code))
}

/// A branch whose target is not known yet.
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
            if is_special(&name) {
                return Err(ParseError {
                    line,
                    message: format!("`{name}` is declared; expected a name of no special register"),
                });
            }
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
        let named = |error: ParseError| ParseError { message: format!("in `{opcode}`: {}", error.message), ..error };
        let operands = self.operands().map_err(named)?;
        let (op, class) = match Opcode::new(opcode).mnemonic {
            "bra" => (self.branch(line, opcode, &operands)?, Class::Control),
            _ => at(line, self.decoder.decode(opcode, &operands))?,
        };
        self.code.push(Instruction { guard, op, class, line: line as u32 });
        Ok(())
    }

    /// The operands up to the semicolon.
    fn operands(&mut self) -> Result<Vec<Operand>, ParseError> {
        let mut operands = Vec::new();
        if *self.cursor.peek() != Token::Symbol(';') {
            operands.push(self.cursor.operand(&mut self.decoder.names)?);
            while self.cursor.accept(',') {
                operands.push(self.cursor.operand(&mut self.decoder.names)?);
            }
        }
        self.cursor.expect(';')?;
        Ok(operands)
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
