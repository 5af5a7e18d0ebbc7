-- Up Migration

create table keyfleet.sessions (
  id uuid primary key,
  -- Null: of a client, under the client credentials grant.
  account_id uuid references keyfleet.accounts,
  client_id text not null,
  audience text not null,
  scope text not null,
  auth_time timestamptz(3) not null,
  expires_at timestamptz(3) not null,
  address text not null,
  user_agent text not null,
  secret_id text not null,
  seal bytea not null,
  ended_at timestamptz(3),
  end_reason text,

  -- The moving part, sealed anew with every rotation. Hashes are SHA-256 over session, generation and secret.
  generation integer not null default 0,
  refresh_hash bytea,
  parent_hash bytea,
  -- When the current token was made; its idle time, and its parent's grace, count from then.
  rotated_at timestamptz(3) not null,
  -- The current token's secret is derived from its parent's, this salt, and FLEET_SECRET of this id.
  rotation_salt bytea,
  rotation_secret_id text,
  refresh_seal_secret_id text,
  refresh_seal bytea,
  -- How often the parent was presented again within its grace.
  grace_uses integer not null default 0,
  -- When each generation before the parent was rotated away, the latest last; only those within their grace.
  rotation_times timestamptz[] not null default '{}'
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
  expires_at timestamptz(3) not null,
  revoked_at timestamptz(3)
);
create index issued_tokens_by_expiry on keyfleet.issued_tokens (expires_at);

-- What every issuing statement is given of the instance: keys to choose from, and its estimate of this clock.
create type keyfleet.issuer as (
  instance_id uuid,
  candidates text[],
  -- Keys so new that not every instance serves them yet; good only where no other instance is alive.
  unsettled text[],
  propagation_delay interval,
  now_estimate timestamptz,
  token_ttl interval,
  verify_grace interval
);

-- Chooses the key that signs at p_now and holds it FOR SHARE: own mature, else another's mature, else the oldest.
-- A key that was retired or revoked while its lock was waited for is re-checked, and passed over.
create function keyfleet.choose_signing_key(
  p_issuer keyfleet.issuer, p_now timestamptz, out kid text, out mature boolean
) language plpgsql as $$
declare
  offered text[] := (p_issuer).candidates;
  mature_since timestamptz := p_now - (p_issuer).propagation_delay;
begin
  for attempt in 1..2 loop
    select k.kid, k.published_at <= mature_since into kid, mature
      from keyfleet.signing_keys k
      where k.kid = any (offered)
        and k.revoked_at is null
        and k.activates_at <= p_now
        and keyfleet.key_retirement(k) > p_now
        and keyfleet.key_expiry(k) >= p_now + (p_issuer).token_ttl + (p_issuer).verify_grace
      order by k.published_at <= mature_since desc,
               k.instance_id = (p_issuer).instance_id desc,
               k.published_at, k.kid
      limit 1
      for share;
    exit when kid is not null;
    exit when exists (select from keyfleet.instances i
      where i.id <> (p_issuer).instance_id and i.stopped_at is null and i.revoked_at is null
        and i.heartbeat_at > p_now - interval '60 seconds');
    offered := (p_issuer).unsettled;
  end loop;
end $$;

-- Whether the instance's idea of the time, and a time it proposes to seal, may be believed.
create function keyfleet.clock_agrees(p_issuer keyfleet.issuer, p_now timestamptz, p_proposed timestamptz)
returns boolean language sql immutable as $$
  select abs(extract(epoch from p_now - (p_issuer).now_estimate)) <= 2
     and abs(extract(epoch from p_now - p_proposed)) <= 0.5
$$;

create function keyfleet.record_token(
  p_issuer keyfleet.issuer, p_jti text, p_session_id uuid, p_kid text,
  p_client_id text, p_audience text, p_scope text, p_now timestamptz
) returns void language sql as $$
  insert into keyfleet.issued_tokens
    (jti, session_id, kid, instance_id, client_id, audience, scope, issued_at, expires_at)
  values
    (p_jti, p_session_id, p_kid, (p_issuer).instance_id, p_client_id, p_audience, p_scope, p_now, p_now + (p_issuer).token_ttl)
$$;

-- Columns by name: one that a later release adds gets its default.
create function keyfleet.insert_session(s keyfleet.sessions) returns void language sql as $$
  insert into keyfleet.sessions
    (id, account_id, client_id, audience, scope, auth_time, expires_at, address, user_agent, secret_id, seal,
     refresh_hash, rotated_at, refresh_seal_secret_id, refresh_seal)
  values
    (s.id, s.account_id, s.client_id, s.audience, s.scope, s.auth_time, s.expires_at, s.address, s.user_agent,
     s.secret_id, s.seal, s.refresh_hash, s.rotated_at, s.refresh_seal_secret_id, s.refresh_seal)
$$;

-- Starts a session and issues its first access token, in one round trip. The account row is locked first, against
-- whoever ends its sessions (account row first, then sessions); one reading of the clock after that serves all.
-- Outcomes: issued, authority_changed, clock_differs, no_signing_key.
create function keyfleet.start_session(
  p_session keyfleet.sessions, p_account_version bigint, p_address_block text,
  p_jti text, p_issuer keyfleet.issuer,
  out outcome text, out kid text, out mature boolean, out issued_at timestamptz
) language plpgsql as $$
begin
  perform from keyfleet.accounts a
    where a.id = (p_session).account_id and a.enabled and a.version = p_account_version for share;
  if not found then outcome := 'authority_changed'; return; end if;
  issued_at := pg_catalog.clock_timestamp();
  if not keyfleet.clock_agrees(p_issuer, issued_at, (p_session).auth_time) then
    outcome := 'clock_differs'; return;
  end if;
  select c.kid, c.mature into kid, mature from keyfleet.choose_signing_key(p_issuer, issued_at) c;
  if kid is null then outcome := 'no_signing_key'; return; end if;
  perform keyfleet.insert_session(p_session);
  perform keyfleet.record_token(p_issuer, p_jti, (p_session).id, kid,
    (p_session).client_id, (p_session).audience, (p_session).scope, issued_at);
  insert into keyfleet.account_addresses as known (account_id, address_block, last_login_at)
    values ((p_session).account_id, p_address_block, issued_at)
    on conflict (account_id, address_block) do update set last_login_at = excluded.last_login_at
      where known.last_login_at < excluded.last_login_at - interval '1 hour';
  perform keyfleet.audit(
    ('account:' || (p_session).account_id, (p_issuer).instance_id, (p_session).address),
    'login', (p_session).account_id, (p_session).id, (p_session).client_id, kid, null);
  outcome := 'issued';
end $$;

-- What a presented refresh token is, by a session row that is held locked. Only a token that was genuinely issued
-- (its tag says so) can end a session; what was made up has no effect.
--   rotate: the current token. repeat: its parent, within its grace: the same successor again.
--   stale: an older one within its own grace, or one presented too often: refused, and harmless.
--   reused: one whose grace is over. unknown: everything else.
create function keyfleet.judge_refresh_token(
  s keyfleet.sessions, p_now timestamptz, p_generation integer, p_hash bytea, p_genuine boolean,
  p_grace interval, p_grace_uses integer
) returns text language plpgsql immutable as $$
declare
  rotated_away_at timestamptz;
begin
  if s.generation = p_generation and s.refresh_hash = p_hash then return 'rotate'; end if;
  if s.generation = p_generation + 1 and s.parent_hash = p_hash then
    if p_now > s.rotated_at + p_grace then return 'reused'; end if;
    return case when s.grace_uses < p_grace_uses then 'repeat' else 'stale' end;
  end if;
  if not p_genuine or p_generation >= s.generation then return 'unknown'; end if;
  -- rotation_times ends with when the grandparent was rotated away, which is generation - 2.
  rotated_away_at := s.rotation_times[cardinality(s.rotation_times) - (s.generation - 2 - p_generation)];
  return case when rotated_away_at is not null and p_now <= rotated_away_at + p_grace then 'stale' else 'reused' end;
end $$;

-- Ends one session and tells everybody. True where it was alive.
create function keyfleet.end_session(p_session_id uuid, p_reason text, p_who keyfleet.acting)
returns boolean language plpgsql as $$
declare
  s keyfleet.sessions;
  now_at timestamptz;
begin
  select * into s from keyfleet.sessions where id = p_session_id and ended_at is null for update;
  if not found then return false; end if;
  now_at := pg_catalog.clock_timestamp();
  update keyfleet.sessions set ended_at = now_at, end_reason = p_reason where id = p_session_id;
  perform keyfleet.audit(p_who, 'session_ended', s.account_id, s.id, s.client_id, null, p_reason);
  perform keyfleet.revoke('session', array[s.id::text], now_at, keyfleet.forget_after(now_at));
  return true;
end $$;

-- Ends the session of a refresh token that is genuine, or that the row knows. False for any other.
create function keyfleet.end_session_by_refresh_token(
  p_session_id uuid, p_generation integer, p_hash bytea, p_genuine boolean, p_reason text, p_who keyfleet.acting
) returns boolean language plpgsql as $$
begin
  perform from keyfleet.sessions s where s.id = p_session_id and (p_genuine
    or s.generation = p_generation and s.refresh_hash = p_hash
    or s.generation = p_generation + 1 and s.parent_hash = p_hash);
  if not found then return p_genuine; end if;
  perform keyfleet.end_session(p_session_id, p_reason, p_who);
  return true;
end $$;

-- Refreshes: judges the token, rotates it, chooses a key and records the access token; or ends the session, which is
-- committed although the answer is an error. The row is locked first; what is decided and written refers to that.
-- What the row held is returned too: its seals can only be checked by who knows FLEET_SECRET, before anything is
-- signed. p_next is the moving part after a rotation.
-- Outcomes: issued, repeated, stale, reused, unknown, ended, other_client, scope_exceeded, clock_differs, no_signing_key.
create function keyfleet.refresh_session(
  p_session_id uuid, p_generation integer, p_hash bytea, p_genuine boolean,
  p_client_id text, p_scope text, p_next keyfleet.sessions,
  p_idle interval, p_grace interval, p_grace_uses integer,
  p_jti text, p_issuer keyfleet.issuer, p_who keyfleet.acting,
  out outcome text, out kid text, out mature boolean, out issued_at timestamptz, out scope text,
  out session keyfleet.sessions
) language plpgsql as $$
declare
  verdict text;
begin
  select * into session from keyfleet.sessions s where s.id = p_session_id for update;
  if not found then outcome := 'unknown'; return; end if;
  issued_at := pg_catalog.clock_timestamp();
  verdict := keyfleet.judge_refresh_token(
    session, issued_at, p_generation, p_hash, p_genuine, p_grace, p_grace_uses);
  if verdict = 'unknown' then outcome := 'unknown'; return; end if;
  if session.ended_at is not null or session.expires_at <= issued_at or session.rotated_at + p_idle <= issued_at then
    outcome := 'ended'; return;
  end if;
  if verdict = 'reused' then
    perform keyfleet.end_session(p_session_id, 'refresh_token_reused', p_who);
    outcome := 'reused'; return;
  end if;
  if verdict = 'stale' then outcome := 'stale'; return; end if;
  if session.client_id <> p_client_id then outcome := 'other_client'; return; end if;
  scope := coalesce(p_scope, session.scope);
  if not string_to_array(scope, ' ') <@ string_to_array(session.scope, ' ') then
    outcome := 'scope_exceeded'; return;
  end if;
  if not keyfleet.clock_agrees(p_issuer, issued_at, p_next.rotated_at) then outcome := 'clock_differs'; return; end if;
  select c.kid, c.mature into kid, mature from keyfleet.choose_signing_key(p_issuer, issued_at) c;
  if kid is null then outcome := 'no_signing_key'; return; end if;
  if verdict = 'rotate' then
    update keyfleet.sessions s set
      generation = s.generation + 1,
      refresh_hash = p_next.refresh_hash,
      parent_hash = p_next.parent_hash,
      rotated_at = p_next.rotated_at,
      rotation_salt = p_next.rotation_salt,
      rotation_secret_id = p_next.rotation_secret_id,
      refresh_seal_secret_id = p_next.refresh_seal_secret_id,
      refresh_seal = p_next.refresh_seal,
      grace_uses = 0,
      rotation_times = case when s.generation = 0 then '{}' else array(
        select t from unnest((s.rotation_times || s.rotated_at)[greatest(1, cardinality(s.rotation_times) - 99):]) t
        where t > issued_at - p_grace order by t) end
      where s.id = p_session_id;
  else
    update keyfleet.sessions s set grace_uses = s.grace_uses + 1 where s.id = p_session_id;
    perform keyfleet.audit(p_who, 'refresh_repeated', session.account_id, session.id, session.client_id, null, null);
  end if;
  perform keyfleet.record_token(p_issuer, p_jti, p_session_id, kid, session.client_id, session.audience, scope, issued_at);
  outcome := case verdict when 'rotate' then 'issued' else 'repeated' end;
end $$;

-- Ends an account's live sessions but p_keep. To be called in a statement after the one that locks the account's
-- row: only so does it see a login that committed while that row was waited for (in one statement it slips, seen).
create function keyfleet.end_account_sessions(
  p_account_id uuid, p_keep uuid, p_reason text, p_who keyfleet.acting
) returns void language plpgsql as $$
declare
  now_at timestamptz;
  ids text[];
begin
  perform from keyfleet.sessions s
    where s.account_id = p_account_id and s.ended_at is null and s.id is distinct from p_keep order by s.id for update;
  now_at := pg_catalog.clock_timestamp();
  with ended as (
    update keyfleet.sessions s set ended_at = now_at, end_reason = p_reason
      where s.account_id = p_account_id and s.ended_at is null and s.id is distinct from p_keep
      returning s.id, s.client_id
  ), told as (
    select ended.id, keyfleet.audit(p_who, 'session_ended', p_account_id, ended.id, ended.client_id, null, p_reason)
      from ended
  )
  select coalesce(array_agg(told.id::text), '{}') into ids from told;
  perform keyfleet.revoke('session', ids, now_at, keyfleet.forget_after(now_at));
end $$;

-- Writes an account's changed row where it is still of the version that was read, then ends its sessions where what
-- it may do has shrunk. False: it has changed since.
create function keyfleet.change_account(
  p_account keyfleet.accounts, p_version bigint, p_end_sessions boolean, p_keep_session uuid,
  p_event text, p_who keyfleet.acting
) returns boolean language plpgsql as $$
begin
  update keyfleet.accounts a set
    password = p_account.password, scopes = p_account.scopes, enabled = p_account.enabled,
    must_change_password = p_account.must_change_password, version = p_account.version,
    secret_id = p_account.secret_id, seal = p_account.seal
    where a.id = p_account.id and a.version = p_version;
  if not found then return false; end if;
  perform keyfleet.audit(p_who, p_event, p_account.id, null, null, null, null);
  if p_end_sessions then
    perform keyfleet.end_account_sessions(p_account.id, p_keep_session, p_event, p_who);
  end if;
  return true;
end $$;

-- Issues an access token to a client, under its standing session; p_session is a new one, for where there is none.
-- Outcomes: issued, authority_changed, clock_differs, no_signing_key.
create function keyfleet.issue_client_token(
  p_client_id text, p_seal bytea, p_session keyfleet.sessions, p_audience text, p_scope text,
  p_jti text, p_issuer keyfleet.issuer, p_address text,
  out outcome text, out kid text, out mature boolean, out issued_at timestamptz, out session keyfleet.sessions
) language plpgsql as $$
declare
  client keyfleet.clients;
begin
  -- No one ends a client's sessions but by removing it or by their ids, so its row is what serialises.
  select * into client from keyfleet.clients c where c.id = p_client_id and c.seal = p_seal for update;
  if not found then outcome := 'authority_changed'; return; end if;
  issued_at := pg_catalog.clock_timestamp();
  if not keyfleet.clock_agrees(p_issuer, issued_at, p_session.auth_time) then outcome := 'clock_differs'; return; end if;
  select c.kid, c.mature into kid, mature from keyfleet.choose_signing_key(p_issuer, issued_at) c;
  if kid is null then outcome := 'no_signing_key'; return; end if;
  select * into session from keyfleet.sessions s
    where s.id = client.session_id and s.ended_at is null and s.expires_at > issued_at for share;
  if not found then
    perform keyfleet.insert_session(p_session);
    update keyfleet.clients set session_id = p_session.id where id = p_client_id;
    session := p_session;
    perform keyfleet.audit(('client:' || p_client_id, (p_issuer).instance_id, p_address),
      'login', null, session.id, p_client_id, kid, null);
  end if;
  perform keyfleet.record_token(p_issuer, p_jti, session.id, kid, p_client_id, p_audience, p_scope, issued_at);
  outcome := 'issued';
end $$;

-- Removes a client; its standing session ends.
create function keyfleet.remove_client(p_client_id text, p_who keyfleet.acting) returns boolean language plpgsql as $$
declare
  client keyfleet.clients;
begin
  delete from keyfleet.clients c where c.id = p_client_id returning * into client;
  if not found then return false; end if;
  perform keyfleet.audit(p_who, 'client_removed', null, null, p_client_id, null, null);
  perform keyfleet.end_session(client.session_id, 'client_removed', p_who);
  return true;
end $$;

-- Revokes one access token, of this session.
create function keyfleet.revoke_token(p_jti text, p_who keyfleet.acting) returns boolean language plpgsql as $$
declare
  token keyfleet.issued_tokens;
  now_at timestamptz;
begin
  select * into token from keyfleet.issued_tokens t where t.jti = p_jti and t.revoked_at is null for update;
  if not found then return false; end if;
  now_at := pg_catalog.clock_timestamp();
  update keyfleet.issued_tokens set revoked_at = now_at where jti = p_jti;
  perform keyfleet.audit(p_who, 'token_revoked', null, token.session_id, token.client_id, token.kid, p_jti);
  perform keyfleet.revoke('token', array[p_jti], now_at, keyfleet.forget_after(now_at));
  return true;
end $$;

-- How much a revocation of an instance's keys would touch: unexpired tokens, and the sessions they are of.
create function keyfleet.count_affected_by_keys(p_instance_id uuid, out tokens bigint, out sessions bigint)
language sql stable as $$
  select count(*), count(distinct t.session_id) from keyfleet.issued_tokens t
    join keyfleet.signing_keys k on k.kid = t.kid
    where k.instance_id = p_instance_id and k.revoked_at is null and t.expires_at > pg_catalog.clock_timestamp()
$$;
