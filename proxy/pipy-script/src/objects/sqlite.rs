//! `sqlite(file, [flags])`: databases that scripts keep on the machine.
//!
//! `Database`: `sql(text)`, `exec(text, [row => stop])`, `changes`, `lastInsertRowid`, `close()`. `Statement`: `bind(i, value)` (from 1,
//! or by name), `bind({name: value})`, `step()`, `column(i)` (from 0), `row()`, `rows()`, `exec()`, `reset()`.
//!
//! INVARIANT: a call waits for another process's lock for 100 ms at most, for the worker waits with it; then it throws.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rquickjs::class::Trace;
use rquickjs::function::Opt;
use rquickjs::{Class, Coerced, Ctx, Exception, Function, JsLifetime, Object, Result, Value};
use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags};

use crate::data::Data;

/// How long a call waits for a database that another process has locked.
const PATIENCE: Duration = Duration::from_millis(100);
/// LIMIT: rows that `rows()` gives at once.
const ROWS_MAX: usize = 1_000_000;

type Shared = Rc<RefCell<Option<Connection>>>;

/// A database.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Database {
    #[qjs(skip_trace)]
    connection: Shared,
    #[qjs(skip_trace)]
    file: String,
}

fn failed(ctx: &Ctx<'_>, what: &str, error: &rusqlite::Error) -> rquickjs::Error {
    Exception::throw_message(ctx, &format!("sqlite: {what}: {error}"))
}

fn closed(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_message(ctx, "sqlite: the database is closed")
}

fn cell(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<Cell> {
    if value.is_null() || value.is_undefined() {
        return Ok(Cell::Null);
    }
    if let Some(value) = value.as_bool() {
        return Ok(Cell::Integer(value.into()));
    }
    if let Some(value) = value.as_int() {
        return Ok(Cell::Integer(value.into()));
    }
    if let Some(big) = value.as_big_int() {
        return Ok(Cell::Integer(big.clone().to_i64()?));
    }
    if let Some(value) = value.as_float() {
        let whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_991.0;
        #[allow(clippy::cast_possible_truncation)] // whole, and small enough
        return Ok(if whole { Cell::Integer(value as i64) } else { Cell::Real(value) });
    }
    if let Some(bytes) = Data::of(value) {
        return Ok(Cell::Blob(bytes.to_vec()));
    }
    if value.is_string() {
        return Ok(Cell::Text(value.get::<Coerced<String>>()?.0));
    }
    Err(Exception::throw_type(ctx, "sqlite: a value is a number, a text, Data, a boolean or nothing"))
}

fn shown<'js>(ctx: &Ctx<'js>, value: ValueRef<'_>) -> Result<Value<'js>> {
    Ok(match value {
        ValueRef::Null => Value::new_null(ctx.clone()),
        ValueRef::Integer(value) => {
            if value.unsigned_abs() <= 9_007_199_254_740_991 {
                #[allow(clippy::cast_precision_loss)] // small enough
                Value::new_number(ctx.clone(), value as f64)
            } else {
                rquickjs::BigInt::from_i64(ctx.clone(), value)?.into_value()
            }
        }
        ValueRef::Real(value) => Value::new_number(ctx.clone(), value),
        ValueRef::Text(text) => {
            rquickjs::String::from_str(ctx.clone(), &String::from_utf8_lossy(text))?.into_value()
        }
        ValueRef::Blob(bytes) => Data::new_js(ctx, bytes::Bytes::copy_from_slice(bytes))?,
    })
}

#[rquickjs::methods]
impl Database {
    /// A statement.
    fn sql<'js>(&self, ctx: Ctx<'js>, text: String) -> Result<Class<'js, Statement>> {
        let connection = self.connection.borrow();
        let connection = connection.as_ref().ok_or_else(|| closed(&ctx))?;
        // What is no SQL is told here, and not when it is run.
        connection.prepare_cached(&text).map_err(|error| failed(&ctx, &text, &error))?;
        let statement = Statement {
            connection: Rc::clone(&self.connection),
            text,
            bound: RefCell::default(),
            found: RefCell::default(),
        };
        Class::instance(ctx.clone(), statement)
    }

    /// Runs statements; each row is an object for the callback, which ends it by returning what is true.
    fn exec<'js>(&self, ctx: Ctx<'js>, text: String, each: Opt<Function<'js>>) -> Result<()> {
        let Some(each) = each.0 else {
            let connection = self.connection.borrow();
            let connection = connection.as_ref().ok_or_else(|| closed(&ctx))?;
            return connection.execute_batch(&text).map_err(|error| failed(&ctx, &text, &error));
        };
        let rows = select(&ctx, &self.connection, &text, &Bound::default())?;
        for row in 0..rows.cells.len() {
            let object = rows.object(&ctx, row)?;
            if each.call::<_, Coerced<bool>>((object,))?.0 {
                break;
            }
        }
        Ok(())
    }

    /// Rows that the last statement changed.
    #[qjs(get)]
    fn changes(&self) -> u32 {
        self.connection.borrow().as_ref().map_or(0, |it| u32::try_from(it.changes()).unwrap_or(u32::MAX))
    }

    /// The id of the row that was put in last.
    #[qjs(get, rename = "lastInsertRowid")]
    #[allow(clippy::cast_precision_loss)] // an id that a table could have
    fn last(&self) -> f64 {
        self.connection.borrow().as_ref().map_or(0.0, |it| it.last_insert_rowid() as f64)
    }

    /// The path.
    #[qjs(get)]
    fn file(&self) -> String {
        self.file.clone()
    }

    /// Ends it; its statements can be run no more.
    fn close(&self) {
        self.connection.borrow_mut().take();
    }
}

/// Values by place or by name.
#[derive(Default, Clone)]
struct Bound(Vec<(Place, Cell)>);

#[derive(Clone, PartialEq)]
enum Place {
    Number(usize),
    Name(String),
}

/// What a statement gave.
#[derive(Default)]
struct Rows {
    names: Vec<String>,
    cells: Vec<Vec<Cell>>,
}

impl Rows {
    fn object<'js>(&self, ctx: &Ctx<'js>, row: usize) -> Result<Object<'js>> {
        let object = Object::new(ctx.clone())?;
        for (name, cell) in self.names.iter().zip(&self.cells[row]) {
            object.set(name.as_str(), shown(ctx, cell.into())?)?;
        }
        Ok(object)
    }
}

fn select(ctx: &Ctx<'_>, connection: &Shared, text: &str, bound: &Bound) -> Result<Rows> {
    let connection = connection.borrow();
    let connection = connection.as_ref().ok_or_else(|| closed(ctx))?;
    let said = |error: rusqlite::Error| failed(ctx, text, &error);
    let mut statement = connection.prepare_cached(text).map_err(said)?;
    statement.clear_bindings();
    for (place, value) in &bound.0 {
        let number = match place {
            Place::Number(number) => *number,
            Place::Name(name) => {
                let found = [":", "@", "$"].iter().find_map(|mark| {
                    statement
                        .parameter_index(&format!("{mark}{}", name.trim_start_matches([':', '@', '$'])))
                        .ok()?
                });
                found.ok_or_else(|| {
                    Exception::throw_range(ctx, &format!("sqlite: {text}: there is no parameter {name}"))
                })?
            }
        };
        statement.raw_bind_parameter(number, value).map_err(said)?;
    }
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut cells = Vec::new();
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(said)? {
        if cells.len() >= ROWS_MAX {
            return Err(Exception::throw_range(
                ctx,
                &format!("sqlite: more than {ROWS_MAX} rows; use LIMIT"),
            ));
        }
        let row: rusqlite::Result<Vec<Cell>> = (0..names.len()).map(|index| row.get(index)).collect();
        cells.push(row.map_err(said)?);
    }
    Ok(Rows { names, cells })
}

/// A statement. It is run at the first step, and its rows are given one by one.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Statement {
    #[qjs(skip_trace)]
    connection: Shared,
    #[qjs(skip_trace)]
    text: String,
    #[qjs(skip_trace)]
    bound: RefCell<Bound>,
    /// What it gave, and how many rows were taken.
    #[qjs(skip_trace)]
    found: RefCell<Option<(Rows, usize)>>,
}

impl Statement {
    fn put(&self, place: Place, value: Cell) {
        let mut bound = self.bound.borrow_mut();
        bound.0.retain(|(known, _)| *known != place);
        bound.0.push((place, value));
    }
}

#[rquickjs::methods]
impl Statement {
    /// Gives parameters their values.
    fn bind<'js>(
        this: rquickjs::function::This<Class<'js, Statement>>,
        ctx: Ctx<'js>,
        place: Value<'js>,
        value: Opt<Value<'js>>,
    ) -> Result<Class<'js, Statement>> {
        {
            let own = this.0.borrow();
            own.found.replace(None);
            let value = value.0.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
            if let Some(list) = place.as_array() {
                for (index, item) in list.iter::<Value<'js>>().enumerate() {
                    own.put(Place::Number(index + 1), cell(&ctx, &item?)?);
                }
            } else if let Some(fields) = place.as_object().filter(|_| Data::of(&place).is_none()) {
                for field in fields.props::<String, Value<'js>>() {
                    let (name, item) = field?;
                    own.put(Place::Name(name), cell(&ctx, &item)?);
                }
            } else if let Some(number) = place.as_number() {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                // a place among parameters
                own.put(Place::Number(number.max(0.0) as usize), cell(&ctx, &value)?);
            } else {
                own.put(Place::Name(place.get::<Coerced<String>>()?.0), cell(&ctx, &value)?);
            }
        }
        Ok(this.0)
    }

    /// Goes to the next row; false behind the last.
    fn step(&self, ctx: Ctx<'_>) -> Result<bool> {
        let mut found = self.found.borrow_mut();
        match &mut *found {
            Some((rows, taken)) => {
                *taken += 1;
                Ok(*taken < rows.cells.len())
            }
            None => {
                let rows = select(&ctx, &self.connection, &self.text, &self.bound.borrow())?;
                let some = !rows.cells.is_empty();
                *found = Some((rows, 0));
                Ok(some)
            }
        }
    }

    /// A value of the row at hand.
    fn column<'js>(&self, ctx: Ctx<'js>, index: usize) -> Result<Value<'js>> {
        let found = self.found.borrow();
        let cell = found.as_ref().and_then(|(rows, taken)| rows.cells.get(*taken)?.get(index));
        cell.map_or_else(|| Ok(Value::new_undefined(ctx.clone())), |cell| shown(&ctx, cell.into()))
    }

    /// The row at hand as an object; of a statement that was not begun, the next one. `null` behind the last.
    fn row<'js>(&self, ctx: Ctx<'js>) -> Result<Option<Object<'js>>> {
        if self.found.borrow().is_none() {
            self.step(ctx.clone())?;
        }
        let found = self.found.borrow();
        let Some((rows, taken)) = found.as_ref() else { return Ok(None) };
        (*taken < rows.cells.len()).then(|| rows.object(&ctx, *taken)).transpose()
    }

    /// All rows.
    fn rows<'js>(&self, ctx: Ctx<'js>) -> Result<Vec<Object<'js>>> {
        let rows = select(&ctx, &self.connection, &self.text, &self.bound.borrow())?;
        (0..rows.cells.len()).map(|row| rows.object(&ctx, row)).collect()
    }

    /// Runs it for what it does.
    fn exec(&self, ctx: Ctx<'_>) -> Result<()> {
        select(&ctx, &self.connection, &self.text, &self.bound.borrow()).map(drop)
    }

    /// Begins anew; what is bound stays.
    fn reset<'js>(this: rquickjs::function::This<Class<'js, Statement>>) -> Class<'js, Statement> {
        this.0.borrow().found.replace(None);
        this.0
    }
}

fn open<'js>(ctx: Ctx<'js>, file: String, options: Opt<Object<'js>>) -> Result<Class<'js, Database>> {
    let mut flags = OpenFlags::default();
    if let Some(options) = &options.0
        && options.get::<_, Option<bool>>("readonly")?.unwrap_or(false)
    {
        flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    }
    let opened = Connection::open_with_flags(&file, flags).and_then(|connection| {
        connection.busy_timeout(PATIENCE)?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| failed(&ctx, &file, &error))?;
    Class::instance(ctx, Database { connection: Rc::new(RefCell::new(Some(connection))), file })
}

/// Puts it into the globals.
pub(super) fn install<'js>(ctx: &Ctx<'js>, _native: &Object<'js>) -> Result<()> {
    ctx.globals().set("sqlite", Function::new(ctx.clone(), open)?)
}
