//! The rows of a new order: all of them, or none where somebody else holds its amount.

use cryptopay_entity::amount_reservation::{self, Wanted};
use cryptopay_entity::database_error::violates_unique;
use cryptopay_entity::idempotency_key::{self, Answered};
use cryptopay_entity::{event, payment_order, webhook_delivery};
use sea_orm::sea_query::{CommonTableExpression, InsertStatement, Query, SubQueryStatement, WithClause};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityName, EntityTrait,
    IntoActiveModel, Iterable, QueryTrait,
};

use crate::error::{LedgerError, Refusal};
use crate::outbox::Outgoing;

/// What is written of a new order. The rows name each other by numbers that were drawn before.
pub(super) struct Rows<'a> {
    pub(super) order: payment_order::Model,
    pub(super) reservation: Wanted<'a>,
    pub(super) outgoing: Outgoing,
    /// None for a request without an idempotency key.
    pub(super) answer: Option<Answered>,
}

/// The amount that the order's statement has taken: one row, or none if somebody else holds it.
const HELD: &str = "held";

/// Unique index of a merchant's nonces, and its columns.
const NONCE_CONSTRAINT: &str = "payment_order_nonce";
const NONCE_COLUMNS: &str = "payment_order.merchant_id, payment_order.nonce";

impl Rows<'_> {
    /// Writes them; `false`, and nothing is written, if somebody else holds the amount: the constraint decides.
    pub(super) async fn write(self, txn: &DatabaseTransaction) -> Result<bool, LedgerError> {
        match txn.get_database_backend() {
            DbBackend::Postgres => self.write_at_once(txn).await,
            _ => self.write_in_turn(txn).await,
        }
    }

    /// One statement, since each one more costs the server and the gateway as much as its rows do. The amount is taken
    /// first, and every other row is selected from what that gave. Foreign keys are checked when the statement ends.
    async fn write_at_once(self, txn: &DatabaseTransaction) -> Result<bool, LedgerError> {
        let mut with = WithClause::new();
        let mut hold = amount_reservation::Entity::holding(self.reservation).into_query();
        hold.returning_col(amount_reservation::Column::OrderId);
        with.cte(named(HELD, hold));
        with.cte(named("created", selected(self.outgoing.event)?));
        for (number, delivery) in self.outgoing.deliveries.into_iter().enumerate() {
            with.cte(named(format!("delivery_{number}"), selected(delivery)?));
        }
        if let Some(answer) = self.answer {
            let mut keep = idempotency_key::Entity::keeping(answer).into_query();
            keep.from(HELD);
            with.cte(named("answered", keep));
        }
        let order = selected(self.order.into_active_model())?;
        Ok(txn.execute(&with.query(order)).await.map_err(refused)?.rows_affected() == 1)
    }

    /// SQLite knows no such statement, and checks each reference at once. It has one writer, so an amount that this
    /// transaction has found free is free.
    async fn write_in_turn(self, txn: &DatabaseTransaction) -> Result<bool, LedgerError> {
        let order = payment_order::Entity::insert(self.order.into_active_model());
        order.exec_without_returning(txn).await.map_err(refused)?;
        if !amount_reservation::Entity::hold(txn, self.reservation).await? {
            return Err(LedgerError::LostGuard);
        }
        event::Entity::insert(self.outgoing.event).exec_without_returning(txn).await?;
        if !self.outgoing.deliveries.is_empty() {
            webhook_delivery::Entity::insert_many(self.outgoing.deliveries).exec_without_returning(txn).await?;
        }
        if let Some(answer) = self.answer {
            idempotency_key::Entity::keep(txn, answer).await?;
        }
        Ok(true)
    }
}

/// What stands in an order's way, where it is known.
fn refused(error: DbErr) -> LedgerError {
    if violates_unique(&error, NONCE_CONSTRAINT, NONCE_COLUMNS) {
        return Refusal::NonceUsed { order_id: String::new() }.into();
    }
    error.into()
}

fn named(name: impl Into<String>, statement: impl Into<SubQueryStatement>) -> CommonTableExpression {
    CommonTableExpression::new().table_name(name.into()).query(statement).to_owned()
}

/// Inserts a row if the amount was taken.
fn selected<A: ActiveModelTrait>(row: A) -> Result<InsertStatement, DbErr> {
    let mut select = Query::select();
    let mut columns = Vec::new();
    for column in <A::Entity as EntityTrait>::Column::iter() {
        if let Some(value) = row.get(column).into_value() {
            columns.push(column);
            select.expr(column.save_as(value.into()));
        }
    }
    select.from(HELD);
    let mut insert = Query::insert();
    insert.into_table(A::Entity::default().table_ref()).columns(columns);
    insert.select_from(select).map_err(|error| DbErr::Custom(error.to_string()))?;
    Ok(insert)
}
