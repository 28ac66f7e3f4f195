//! Which process runs which timer.

use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "timer_lease")]
pub struct Model {
    /// Timer.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Process.
    pub owner: String,
    /// Until when (database clock).
    pub lease_until: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
