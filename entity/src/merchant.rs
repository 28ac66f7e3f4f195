//! Merchants: who may log in, and how their payments are treated.

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::merchant::Plan;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::LockType;
use sea_orm::{Condition, QuerySelect};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: MerchantId,
    /// Name to log in with, as chosen.
    pub username: String,
    /// The same, case-folded; unique.
    pub username_key: String,
    /// E-mail address.
    pub email: String,
    /// The same, case-folded; unique.
    pub email_key: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
    /// What customers see.
    pub shop_name: String,
    /// Decides the request limit.
    pub plan: Plan,
    /// Requests an hour, set by the operator.
    pub limit_override: Option<i64>,
    /// Payment settings as JSON.
    pub payment_settings: String,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewMerchant {
    /// Name to log in with, as chosen.
    pub username: String,
    /// E-mail address.
    pub email: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
    /// What customers see.
    pub shop_name: String,
}

/// Which names of an account are somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The name to log in with.
    pub username: bool,
    /// The e-mail address.
    pub email: bool,
}

impl Entity {
    /// Makes an account with the standard plan and default settings. `now` is database time.
    ///
    /// # Errors
    /// A unique constraint, if a name was taken meanwhile; [`Entity::taken`] says which.
    pub async fn add(connection: &impl ConnectionTrait, new: NewMerchant, now: Timestamp) -> Result<Model, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            username_key: Set(folded(&new.username)),
            username: Set(new.username),
            email_key: Set(folded(&new.email)),
            email: Set(new.email),
            password_hash: Set(new.password_hash),
            shop_name: Set(new.shop_name),
            plan: Set(Plan::Standard),
            limit_override: Set(None),
            payment_settings: Set("{}".to_owned()),
            created_at: Set(now),
            updated_at: Set(now),
        };
        row.insert(connection).await
    }

    /// The account that logs in with this name or e-mail address, in any case. A name holds no `@`, so that the two
    /// cannot be mistaken for each other.
    pub async fn find_by_login(connection: &impl ConnectionTrait, login: &str) -> Result<Option<Model>, DbErr> {
        let key = folded(login);
        let column = if key.contains('@') { Column::EmailKey } else { Column::UsernameKey };
        Self::find().filter(column.eq(key)).one(connection).await
    }

    /// Which of these names, in any case, are taken by an account other than `except`. A name that is not asked about is
    /// not.
    pub async fn taken(
        connection: &impl ConnectionTrait,
        username: Option<&str>,
        email: Option<&str>,
        except: Option<MerchantId>,
    ) -> Result<Taken, DbErr> {
        let (username, email) = (username.map(folded), email.map(folded));
        let either = Condition::any()
            .add_option(username.as_ref().map(|key| Column::UsernameKey.eq(key)))
            .add_option(email.as_ref().map(|key| Column::EmailKey.eq(key)));
        if either.is_empty() {
            return Ok(Taken { username: false, email: false });
        }
        let rows: Vec<(String, String)> = Self::find()
            .select_only()
            .columns([Column::UsernameKey, Column::EmailKey])
            .filter(either)
            .filter(Condition::all().add_option(except.map(|id| Column::Id.ne(id))))
            .into_tuple()
            .all(connection)
            .await?;
        Ok(Taken {
            username: rows.iter().any(|(key, _)| Some(key) == username.as_ref()),
            email: rows.iter().any(|(_, key)| Some(key) == email.as_ref()),
        })
    }

    /// The account, locked until the transaction ends: whatever opens or ends its logins waits its turn here. Rows that
    /// refer to the account may be written meanwhile.
    pub async fn lock(connection: &impl ConnectionTrait, id: MerchantId) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id).lock(LockType::NoKeyUpdate).one(connection).await
    }

    /// Changes the password.
    pub async fn set_password(
        connection: &impl ConnectionTrait,
        id: MerchantId,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let change = Self::update_many().col_expr(Column::PasswordHash, Expr::value(password_hash));
        change
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await
            .map(|_| ())
    }

    /// Changes the profile: what is `None` stays.
    ///
    /// # Errors
    /// A unique constraint, if the e-mail address was taken meanwhile.
    pub async fn change_profile(
        connection: &impl ConnectionTrait,
        id: MerchantId,
        email: Option<&str>,
        shop_name: Option<&str>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let mut change = Self::update_many().col_expr(Column::UpdatedAt, Expr::value(now));
        if let Some(email) = email {
            change = change
                .col_expr(Column::Email, Expr::value(email))
                .col_expr(Column::EmailKey, Expr::value(folded(email)));
        }
        if let Some(shop_name) = shop_name {
            change = change.col_expr(Column::ShopName, Expr::value(shop_name));
        }
        change.filter(Column::Id.eq(id)).exec(connection).await.map(|_| ())
    }

    /// Changes the payment settings; `settings` is JSON.
    pub async fn set_payment_settings(
        connection: &impl ConnectionTrait,
        id: MerchantId,
        settings: &str,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let change = Self::update_many().col_expr(Column::PaymentSettings, Expr::value(settings));
        change
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await
            .map(|_| ())
    }

    /// Changes the plan. `limit` is requests an hour in place of the plan's own.
    pub async fn set_plan(
        connection: &impl ConnectionTrait,
        id: MerchantId,
        plan: Plan,
        limit: Option<i64>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let change = Self::update_many().col_expr(Column::Plan, Expr::value(plan));
        change
            .col_expr(Column::LimitOverride, Expr::value(limit))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await
            .map(|_| ())
    }

    /// The account, locked so that nobody writes a row that refers to it until the transaction ends.
    pub async fn lock_out(connection: &impl ConnectionTrait, id: MerchantId) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id).lock(LockType::Update).one(connection).await
    }
}

impl Model {
    /// How many requests an hour each of the merchant's buckets allows: the operator's number, else the plan's.
    pub fn requests_per_hour(&self) -> i64 {
        self.limit_override.unwrap_or_else(|| self.plan.requests_per_hour())
    }
}

/// How names are compared.
fn folded(name: &str) -> String {
    name.to_lowercase()
}
