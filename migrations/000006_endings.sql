-- Up Migration

-- Pruning looks for sessions by when they were over, every few minutes, within a serving statement's second. The drop
-- comes first, for it takes the stronger lock: what reads at that moment and is about to write could not let a weaker
-- one be raised (a deadlock, seen).
drop index keyfleet.sessions_by_expiry;
create index sessions_by_end on keyfleet.sessions (coalesce(ended_at, expires_at));

create or replace function keyfleet.audit_events_are_append_only() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if old.at < pg_catalog.clock_timestamp() - interval '23 hours' then return old; end if;
  end if;
  raise exception 'audit events are only appended, and pruned after a day at the earliest';
end $$;
create trigger audit_events_are_never_emptied before truncate on keyfleet.audit_events
  for each statement execute function keyfleet.audit_events_are_append_only();

-- Ends sessions that are alive and held locked, and tells everybody: all of an account's have to fit into one serving
-- statement, so by sets.
create function keyfleet.end_locked_sessions(p_ids uuid[], p_reason text, p_who keyfleet.acting)
returns void language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
begin
  with ended as (
    update keyfleet.sessions s set ended_at = now_at, end_reason = p_reason where s.id = any (p_ids)
      returning s.id, s.account_id, s.client_id
  )
  insert into keyfleet.audit_events (event, actor, instance_id, address, account_id, session_id, client_id, detail)
    select 'session_ended', (p_who).actor, (p_who).instance_id, (p_who).address, e.account_id, e.id, e.client_id, p_reason
    from ended e;
  perform keyfleet.revoke('session', p_ids::text[], now_at, keyfleet.forget_after(now_at));
end $$;

-- Ends an account's live sessions but p_keep. To be called in a statement after the one that locks the account's
-- row: only so does it see a login that committed while that row was waited for (in one statement it slips, seen).
create or replace function keyfleet.end_account_sessions(
  p_account_id uuid, p_keep uuid, p_reason text, p_who keyfleet.acting
) returns void language plpgsql as $$
declare
  ids uuid[];
begin
  select coalesce(array_agg(locked.id), '{}') into ids from (
    select s.id from keyfleet.sessions s
      where s.account_id = p_account_id and s.ended_at is null and s.id is distinct from p_keep
      order by s.id for update
  ) locked;
  perform keyfleet.end_locked_sessions(ids, p_reason, p_who);
end $$;

-- Removes a client; its standing session ends, and so does every session of a person through it: without the client
-- nobody would ask for its secret any more at a refresh.
create or replace function keyfleet.remove_client(p_client_id text, p_who keyfleet.acting)
returns boolean language plpgsql as $$
declare
  ids uuid[];
begin
  delete from keyfleet.clients c where c.id = p_client_id;
  if not found then return false; end if;
  perform keyfleet.audit(p_who, 'client_removed', null, null, p_client_id, null, null);
  select coalesce(array_agg(locked.id), '{}') into ids from (
    select s.id from keyfleet.sessions s
      where s.client_id = p_client_id and s.ended_at is null order by s.id for update
  ) locked;
  perform keyfleet.end_locked_sessions(ids, 'client_removed', p_who);
  return true;
end $$;
