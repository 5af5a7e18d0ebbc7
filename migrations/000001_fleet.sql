-- Up Migration

-- The one row that tells every instance, every FLEET_SYNC_INTERVAL, whether there is anything new to read.
create table keyfleet.fleet_state (
  singleton boolean primary key default true check (singleton),
  directory_version bigint not null default 0,
  -- Of the last entry of the revocation log.
  revocation_number bigint not null default 0,
  -- Numbers are only comparable within one epoch: a database that went back in time starts another.
  epoch text not null default replace(gen_random_uuid()::text, '-', ''),
  -- Since then every issued token is on record, in this epoch.
  complete_since timestamptz(3) not null default pg_catalog.clock_timestamp(),
  -- Of the database cluster that the epoch began in.
  cluster_identity text
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

-- System identifier and timeline: both change when a backup is restored or a replica takes over.
create function keyfleet.cluster_identity() returns text language plpgsql as $$
begin
  return (select c.system_identifier || ':' || p.timeline_id
          from pg_catalog.pg_control_system() c, pg_catalog.pg_control_checkpoint() p);
exception when insufficient_privilege then
  return null;
end $$;

-- Begins another epoch where the log may have gone back in time: in another cluster, behind a number that an
-- instance has seen, or when an instance registers and nobody is alive who could have seen one. True where it did.
create function keyfleet.confirm_epoch(p_seen_number bigint, p_instance_id uuid, p_registering boolean)
returns boolean language plpgsql as $$
declare
  identity text := keyfleet.cluster_identity();
  state keyfleet.fleet_state;
  alone boolean;
begin
  select * into state from keyfleet.fleet_state for update;
  alone := p_registering and not exists (select from keyfleet.instances i
    where i.id <> p_instance_id and i.stopped_at is null and i.revoked_at is null
      and i.heartbeat_at > pg_catalog.clock_timestamp() - interval '60 seconds');
  if state.revocation_number >= p_seen_number and not alone and state.cluster_identity is not distinct from identity then
    return false;
  end if;
  update keyfleet.fleet_state set
    epoch = replace(gen_random_uuid()::text, '-', ''),
    complete_since = pg_catalog.clock_timestamp(),
    revocation_number = greatest(revocation_number, p_seen_number),
    cluster_identity = identity;
  return true;
end $$;

-- What has to be refused: opaque ids, in the order of their commits. No instance issues a token that lives longer
-- than an hour, so an entry may be forgotten two minutes (of tolerance at verifiers) after that.
create table keyfleet.revocations (
  number bigint primary key,
  type text not null check (type in ('session', 'token', 'key')),
  id text not null,
  revoked_at timestamptz(3) not null,
  expires_at timestamptz(3) not null
);
create index revocations_by_expiry on keyfleet.revocations (expires_at);

create function keyfleet.forget_after(p_revoked_at timestamptz) returns timestamptz
language sql immutable as $$ select p_revoked_at + interval '62 minutes' $$;

-- Appends to the log. The number is taken from the one-row counter, which serialises: so this is the last act of its
-- transaction, and is sent together with the commit (a sequence would skip late commits, seen).
create function keyfleet.revoke(
  p_type text, p_ids text[], p_revoked_at timestamptz, p_expires_at timestamptz
) returns void language plpgsql as $$
declare
  amount integer := cardinality(p_ids);
  last bigint;
begin
  if amount = 0 then return; end if;
  update keyfleet.fleet_state set revocation_number = revocation_number + amount returning revocation_number into last;
  insert into keyfleet.revocations (number, type, id, revoked_at, expires_at)
    select last - amount + position, p_type, id, p_revoked_at, p_expires_at
    from unnest(p_ids) with ordinality as given (id, position);
  perform pg_catalog.pg_notify('keyfleet_revocations', '');
end $$;

-- Who did what, from where. No secrets; one row for each event.
create table keyfleet.audit_events (
  id bigint generated always as identity primary key,
  at timestamptz(3) not null default pg_catalog.clock_timestamp(),
  event text not null,
  -- account:ID, client:ID, instance:ID or command; null where nobody was authenticated.
  actor text,
  instance_id uuid,
  address text,
  account_id uuid,
  session_id uuid,
  client_id text,
  kid text,
  detail text
);
create index audit_events_by_time on keyfleet.audit_events (at);

create function keyfleet.audit_events_are_append_only() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and old.at < pg_catalog.clock_timestamp() - interval '23 hours' then return old; end if;
  raise exception 'audit events are only appended, and pruned after a day at the earliest';
end $$;
create trigger audit_events_are_append_only before update or delete on keyfleet.audit_events
  for each row execute function keyfleet.audit_events_are_append_only();

-- Who acts, as every function that changes something is told: (actor, instance, address).
create type keyfleet.acting as (actor text, instance_id uuid, address text);

create function keyfleet.audit(
  p_who keyfleet.acting, p_event text, p_account_id uuid, p_session_id uuid, p_client_id text, p_kid text, p_detail text
) returns void language sql as $$
  insert into keyfleet.audit_events
    (event, actor, instance_id, address, account_id, session_id, client_id, kid, detail)
  values
    (p_event, (p_who).actor, (p_who).instance_id, (p_who).address, p_account_id, p_session_id, p_client_id, p_kid, p_detail)
$$;
