-- Up Migration

create table keyfleet.accounts (
  id uuid primary key,
  username text not null unique,
  -- An encrypted hash: see src/accounts/password.ts.
  password text not null,
  scopes text[] not null,
  enabled boolean not null,
  must_change_password boolean not null,
  -- Rises with every change of password, scopes or enabled, and with every ending of all sessions.
  version bigint not null,
  created_at timestamptz(3) not null default pg_catalog.clock_timestamp(),
  secret_id text not null,
  seal bytea not null
);

-- Where an account has logged in from: such an address is spared the limit for a name.
create table keyfleet.account_addresses (
  account_id uuid not null references keyfleet.accounts on delete cascade,
  address_block text not null,
  last_login_at timestamptz(3) not null,
  primary key (account_id, address_block)
);

-- rate-limiter-flexible's table; expire is milliseconds since 1970.
create table keyfleet.login_attempts (
  key varchar(255) primary key,
  points integer not null default 0,
  expire bigint
);

-- A confidential client; its secret is 256 random bits, so a plain hash of it is enough.
create table keyfleet.clients (
  id text primary key,
  secret_hash bytea not null,
  audiences text[] not null,
  scopes text[] not null,
  -- The session that its tokens belong to, made with the first of them.
  session_id uuid,
  created_at timestamptz(3) not null default pg_catalog.clock_timestamp(),
  secret_id text not null,
  seal bytea not null
);
