-- Up Migration

-- The one row that tells every instance, every FLEET_SYNC_INTERVAL, whether there is anything new to read.
create table keyfleet.fleet_state (
  singleton boolean primary key default true check (singleton),
  directory_version bigint not null default 0
);
insert into keyfleet.fleet_state default values;

create table keyfleet.instances (
  id uuid primary key,
  host text not null,
  process_id integer not null,
  started_at timestamptz(3) not null,
  heartbeat_at timestamptz(3) not null,
  stopped_at timestamptz(3),
  revoked_at timestamptz(3)
);

-- Public halves only. A kid is the RFC 7638 thumbprint of its key, so none can be taken twice or for another key.
create table keyfleet.signing_keys (
  kid text primary key,
  instance_id uuid not null references keyfleet.instances,
  alg text not null check (alg in ('EdDSA', 'Ed25519')),
  x text not null check (x ~ '^[A-Za-z0-9_-]{43}$'),
  published_at timestamptz(3) not null,
  activates_at timestamptz(3) not null,
  retires_at timestamptz(3) not null,
  expires_at timestamptz(3) not null,
  retired_early_at timestamptz(3),
  revoked_at timestamptz(3),
  secret_id text not null,
  seal bytea not null,
  check (published_at <= activates_at and activates_at < retires_at and retires_at < expires_at),
  check (kid = translate(rtrim(encode(sha256(convert_to(
    '{"crv":"Ed25519","kty":"OKP","x":"' || x || '"}', 'UTF8')), 'base64'), '='), '+/', '-_'))
);
create index signing_keys_by_instance on keyfleet.signing_keys (instance_id);

-- When a key stops signing, and when it leaves the JWKS: as published, or by its earlier end.
create function keyfleet.key_retirement(k keyfleet.signing_keys) returns timestamptz
language sql immutable as $$ select least(k.retires_at, k.retired_early_at) $$;

create function keyfleet.key_expiry(k keyfleet.signing_keys) returns timestamptz
language sql immutable as $$
  select case when keyfleet.key_retirement(k) < k.activates_at then keyfleet.key_retirement(k)
              else keyfleet.key_retirement(k) + (k.expires_at - k.retires_at) end
$$;

-- A published key is a fact: its end may only move earlier, it may be revoked once, and re-sealing is no change.
create function keyfleet.signing_keys_are_facts() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if keyfleet.key_expiry(old) > pg_catalog.clock_timestamp() then
      raise exception 'an unexpired signing key cannot be deleted';
    end if;
    return old;
  end if;
  if (new.kid, new.instance_id, new.alg, new.x, new.published_at, new.activates_at, new.retires_at, new.expires_at)
     is distinct from
     (old.kid, old.instance_id, old.alg, old.x, old.published_at, old.activates_at, old.retires_at, old.expires_at)
  then
    raise exception 'a published signing key cannot be changed';
  end if;
  if old.retired_early_at is not null
     and (new.retired_early_at is null or new.retired_early_at > old.retired_early_at) then
    raise exception 'the end of a signing key can only move earlier';
  end if;
  if old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at then
    raise exception 'a revoked signing key stays revoked';
  end if;
  return new;
end $$;
create trigger signing_keys_are_facts before update or delete on keyfleet.signing_keys
  for each row execute function keyfleet.signing_keys_are_facts();

-- Whatever changes the keys raises the version as its last act: who has read a version has read all before it.
create function keyfleet.directory_changed() returns trigger language plpgsql as $$
begin
  update keyfleet.fleet_state set directory_version = directory_version + 1;
  perform pg_catalog.pg_notify('keyfleet_directory', '');
  return null;
end $$;
create trigger directory_changed after insert or update or delete on keyfleet.signing_keys
  for each statement execute function keyfleet.directory_changed();

-- Publishes a key, or finds that it is published already (the answer to a first try may have been lost).
-- Outcomes: published, clock_differs, instance_ended.
create function keyfleet.publish_signing_key(
  p_kid text, p_instance_id uuid, p_alg text, p_x text,
  p_published_at timestamptz, p_activates_at timestamptz, p_retires_at timestamptz, p_expires_at timestamptz,
  p_secret_id text, p_seal bytea
) returns text language plpgsql as $$
begin
  perform from keyfleet.instances i
    where i.id = p_instance_id and i.stopped_at is null and i.revoked_at is null for share;
  if not found then return 'instance_ended'; end if;
  perform from keyfleet.signing_keys k where k.kid = p_kid and k.instance_id = p_instance_id;
  if found then return 'published'; end if;
  if abs(extract(epoch from pg_catalog.clock_timestamp() - p_published_at)) > 0.5 then
    return 'clock_differs';
  end if;
  insert into keyfleet.signing_keys
    (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, secret_id, seal)
  values
    (p_kid, p_instance_id, p_alg, p_x, p_published_at, p_activates_at, p_retires_at, p_expires_at, p_secret_id, p_seal);
  return 'published';
end $$;

-- Ends an instance: first its row, so that it publishes no more, then its keys. The keys are locked before the
-- clock is read: a statement that issues under one of them, and holds it FOR SHARE, is waited for.
create function keyfleet.stop_instance(p_instance_id uuid) returns void language plpgsql as $$
declare
  ended_at timestamptz;
begin
  update keyfleet.instances i set stopped_at = coalesce(i.stopped_at, pg_catalog.clock_timestamp())
    where i.id = p_instance_id;
  perform from keyfleet.signing_keys k where k.instance_id = p_instance_id for update;
  ended_at := pg_catalog.clock_timestamp();
  update keyfleet.signing_keys k set retired_early_at = ended_at
    where k.instance_id = p_instance_id and keyfleet.key_retirement(k) > ended_at;
end $$;

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

create table keyfleet.sessions (
  id uuid primary key,
  account_id uuid not null references keyfleet.accounts,
  client_id text not null,
  audience text not null,
  scope text not null,
  auth_time timestamptz(3) not null,
  expires_at timestamptz(3) not null,
  address text not null,
  user_agent text not null,
  secret_id text not null,
  seal bytea not null,
  last_used_at timestamptz(3) not null,
  generation integer not null default 0,
  refresh_hash bytea not null,
  ended_at timestamptz(3)
) with (fillfactor = 80);
create index sessions_by_account on keyfleet.sessions (account_id) where ended_at is null;
create index sessions_by_expiry on keyfleet.sessions (expires_at);

-- Every access token ever issued and not yet expired, written before its signature exists.
create table keyfleet.issued_tokens (
  jti text primary key,
  session_id uuid not null,
  kid text not null,
  instance_id uuid not null,
  client_id text not null,
  audience text not null,
  scope text not null,
  issued_at timestamptz(3) not null,
  expires_at timestamptz(3) not null
);
create index issued_tokens_by_expiry on keyfleet.issued_tokens (expires_at);

-- Chooses the key that signs at p_now and holds it FOR SHARE: own mature, else another's mature, else the oldest.
-- p_unsettled: keys so new that not every instance serves them yet; good only where no other instance is alive.
-- A key that was retired or revoked while its lock was waited for is re-checked, and passed over.
create function keyfleet.choose_signing_key(
  p_now timestamptz, p_instance_id uuid, p_candidates text[], p_unsettled text[],
  p_propagation_delay interval, p_token_lifetime interval,
  out kid text, out mature boolean
) language plpgsql as $$
declare
  offered text[] := p_candidates;
begin
  for attempt in 1..2 loop
    select k.kid, k.published_at + p_propagation_delay <= p_now into kid, mature
      from keyfleet.signing_keys k
      where k.kid = any (offered)
        and k.revoked_at is null
        and k.activates_at <= p_now
        and keyfleet.key_retirement(k) > p_now
        and keyfleet.key_expiry(k) >= p_now + p_token_lifetime
      order by k.published_at + p_propagation_delay <= p_now desc,
               k.instance_id = p_instance_id desc,
               k.published_at, k.kid
      limit 1
      for share;
    exit when kid is not null;
    exit when exists (select from keyfleet.instances i
      where i.id <> p_instance_id and i.stopped_at is null and i.revoked_at is null
        and i.heartbeat_at > p_now - interval '60 seconds');
    offered := p_unsettled;
  end loop;
end $$;

-- Starts a session and issues its first access token, in one round trip. The account row is locked first, against
-- whoever ends its sessions (account row first, then sessions); one reading of the clock after that serves all.
-- Outcomes: issued, account_changed, clock_differs, no_signing_key.
create function keyfleet.start_session(
  p_account_id uuid, p_account_version bigint,
  p_session_id uuid, p_client_id text, p_audience text, p_scope text,
  p_auth_time timestamptz, p_session_expires_at timestamptz, p_refresh_hash bytea,
  p_address text, p_address_block text, p_user_agent text, p_secret_id text, p_seal bytea,
  p_instance_id uuid, p_candidates text[], p_unsettled text[], p_propagation_delay interval,
  p_now_estimate timestamptz, p_jti text, p_token_ttl interval, p_verify_grace interval,
  out outcome text, out kid text, out mature boolean, out issued_at timestamptz
) language plpgsql as $$
begin
  perform from keyfleet.accounts a
    where a.id = p_account_id and a.enabled and a.version = p_account_version for share;
  if not found then outcome := 'account_changed'; return; end if;
  issued_at := pg_catalog.clock_timestamp();
  if abs(extract(epoch from issued_at - p_now_estimate)) > 2
     or abs(extract(epoch from issued_at - p_auth_time)) > 0.5 then
    outcome := 'clock_differs'; return;
  end if;
  select c.kid, c.mature into kid, mature from keyfleet.choose_signing_key(
    issued_at, p_instance_id, p_candidates, p_unsettled, p_propagation_delay, p_token_ttl + p_verify_grace) c;
  if kid is null then outcome := 'no_signing_key'; return; end if;
  insert into keyfleet.sessions
    (id, account_id, client_id, audience, scope, auth_time, expires_at, refresh_hash, last_used_at,
     address, user_agent, secret_id, seal)
  values
    (p_session_id, p_account_id, p_client_id, p_audience, p_scope, p_auth_time, p_session_expires_at, p_refresh_hash,
     issued_at, p_address, p_user_agent, p_secret_id, p_seal);
  insert into keyfleet.issued_tokens
    (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
  values
    (p_jti, p_session_id, kid, p_instance_id, p_client_id, p_audience, p_scope, issued_at, issued_at + p_token_ttl);
  insert into keyfleet.account_addresses as known (account_id, address_block, last_login_at)
  values (p_account_id, p_address_block, issued_at)
  on conflict (account_id, address_block) do update set last_login_at = excluded.last_login_at
    where known.last_login_at < excluded.last_login_at - interval '1 hour';
  outcome := 'issued';
end $$;
