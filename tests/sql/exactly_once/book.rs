//! The book of a bank: the effects, and what must be true of them at the end.

use std::collections::HashMap;

use sqlx::Connection;

use super::engine::Engine;

/// What an operation moves, which follows from its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    payer: i64,
    payee: i64,
    amount: i64,
}

impl Transfer {
    fn of(operation: u64) -> Self {
        let payer = operation % ACCOUNTS;
        // Never the payer.
        let payee = (payer + 1 + operation / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
        Self {
            payer: payer as i64,
            payee: payee as i64,
            amount: (operation % 1_000) as i64 + 1,
        }
    }
}

/// Makes the tables, and that of the store. All accounts have nothing.
pub(crate) async fn open<DB: Engine>(url: &str) {
    let counter = DB::COUNTER;
    let rows: Vec<_> = (0..ACCOUNTS).map(|id| format!("({id}, 0)")).collect();
    let sql = format!(
        "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
        CREATE TABLE ledger (id {counter}, operation bigint NOT NULL);
        INSERT INTO accounts VALUES {}",
        rows.join(", ")
    );
    let pool = DB::pool(url);
    let mut connection = pool.acquire().await.unwrap();
    DB::ask::<0>(&mut connection, sql).await.unwrap();
    DB::migrate(&DB::store(url).await).await;
}

/// Writes an entry into the ledger, and returns its number. No rule of the table keeps it from being
/// there twice.
pub(crate) async fn enter<DB: Engine>(
    connection: &mut DB::Connection,
    operation: u64,
) -> Result<i64, sqlx::Error> {
    let sql = format!("INSERT INTO ledger (operation) VALUES ({operation}) RETURNING id");
    Ok(DB::ask::<1>(connection, sql).await?[0][0])
}

/// Moves the money of an operation, in an order in which no two wait for each other.
pub(crate) async fn transfer<DB: Engine>(
    connection: &mut DB::Connection,
    operation: u64,
) -> Result<(), sqlx::Error> {
    let Transfer {
        payer,
        payee,
        amount,
    } = Transfer::of(operation);
    let mut changes = [(payer, -amount), (payee, amount)];
    changes.sort_unstable();
    for (account, change) in changes {
        let sql = format!("UPDATE accounts SET balance = balance + {change} WHERE id = {account}");
        DB::ask::<0>(connection, sql).await?;
    }
    Ok(())
}

/// What is in the book when all is over.
pub(crate) struct Book {
    /// The operation of each entry.
    entries: HashMap<i64, u64>,
    balances: Vec<i64>,
}

impl Book {
    pub(crate) async fn read<DB: Engine>(url: &str) -> Self {
        let mut connection = DB::Connection::connect(url).await.unwrap();
        let entries = DB::ask::<2>(
            &mut connection,
            "SELECT id, operation FROM ledger".to_owned(),
        )
        .await;
        let entries = entries.unwrap().into_iter();
        let sql = "SELECT balance FROM accounts ORDER BY id".to_owned();
        let balances = DB::ask::<1>(&mut connection, sql).await.unwrap();
        Self {
            entries: entries.map(|[id, of]| (id, of as u64)).collect(),
            balances: balances.into_iter().flatten().collect(),
        }
    }

    /// Returns the operation that an entry is of.
    pub(crate) fn operation(&self, entry: i64) -> Option<u64> {
        self.entries.get(&entry).copied()
    }

    /// Returns how often an operation was entered.
    pub(crate) fn times(&self, operation: u64) -> usize {
        self.entries.values().filter(|of| **of == operation).count()
    }

    /// Says what is not as it must be when so many operations were done once each.
    pub(crate) fn violations(&self, operations: u64) -> Vec<String> {
        let mut violations = Vec::new();
        let mut times = HashMap::<u64, usize>::new();
        for operation in self.entries.values() {
            *times.entry(*operation).or_default() += 1;
        }
        for operation in 0..operations {
            match times.remove(&operation).unwrap_or(0) {
                1 => {}
                n => violations.push(format!("operation {operation} is in the ledger {n} times")),
            }
        }
        for operation in times.into_keys() {
            violations.push(format!("nobody has asked for operation {operation}"));
        }
        let mut expected = vec![0; ACCOUNTS as usize];
        for operation in 0..operations {
            let Transfer {
                payer,
                payee,
                amount,
            } = Transfer::of(operation);
            expected[payer as usize] -= amount;
            expected[payee as usize] += amount;
        }
        let sum: i64 = self.balances.iter().sum();
        if sum != 0 {
            violations.push(format!("the sum of all accounts is {sum} and not 0"));
        }
        if self.balances != expected {
            violations.push("the balances are not those of the operations".to_owned());
        }
        violations
    }
}

const ACCOUNTS: u64 = 256;
