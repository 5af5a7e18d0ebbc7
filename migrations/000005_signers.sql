-- Up Migration

-- Signers and borrowers: who publishes keys, who lends signatures, who left, and who is lost.
alter table keyfleet.instances
  -- Since when its signs of life have come without a gap.
  add column connected_since timestamptz(3) not null default pg_catalog.clock_timestamp(),
  -- Whether notifications reach it: only such an instance can lend.
  add column listening boolean not null default false,
  -- It is shutting down: it has given up its place among the signers, and still lends.
  add column leaving_at timestamptz(3),
  -- Of its last sign of life: random, so that two processes under one id see each other.
  add column beat text not null default '';

-- For an instance without a mature key: the mature keys of others that it knows, the instances that did not answer it
-- lately, and whether it would hear an answer. An instance of the release before sends none of them, and borrows nothing.
alter type keyfleet.issuer
  add attribute lenders text[],
  add attribute avoided uuid[],
  add attribute hearing boolean;

-- A beat comes every 5 s. Three that are missing are silence; a minute of it is death. One that lies ahead was given
-- before the clock was set back, and tells as little as an old one.
create function keyfleet.is_silent(p_heartbeat_at timestamptz, p_now timestamptz) returns boolean
language sql immutable as $$
  select p_heartbeat_at not between p_now - interval '15 seconds' and p_now + interval '15 seconds'
$$;

create function keyfleet.is_dead(p_heartbeat_at timestamptz, p_now timestamptz) returns boolean
language sql immutable as $$
  select p_heartbeat_at not between p_now - interval '60 seconds' and p_now + interval '60 seconds'
$$;

-- Whether an instance was itself here all that time, and so may judge another's silence: after an outage all are silent.
create function keyfleet.is_connected_for(p_instance_id uuid, p_duration interval, p_now timestamptz) returns boolean
language sql stable as $$
  select exists (select from keyfleet.instances i
    where i.id = p_instance_id and i.stopped_at is null and i.revoked_at is null
      and i.connected_since <= p_now - p_duration and not keyfleet.is_silent(i.heartbeat_at, p_now))
$$;

-- Whether an instance lives, as far as one can tell: who has been here for 15 s believes in a silence of that length,
-- anyone else in one of a minute.
create function keyfleet.lives(i keyfleet.instances, p_may_judge boolean, p_now timestamptz) returns boolean
language sql immutable as $$
  select i.stopped_at is null and i.revoked_at is null
     and not case when p_may_judge then keyfleet.is_silent(i.heartbeat_at, p_now)
                  else keyfleet.is_dead(i.heartbeat_at, p_now) end
$$;

create function keyfleet.may_sign(k keyfleet.signing_keys, p_issuer keyfleet.issuer, p_now timestamptz) returns boolean
language sql immutable as $$
  select k.revoked_at is null
     and k.activates_at <= p_now
     and keyfleet.key_retirement(k) > p_now
     and keyfleet.key_expiry(k) >= p_now + (p_issuer).token_ttl + (p_issuer).verify_grace
$$;

-- A mature key of another that lives, held FOR SHARE; spread over all who can lend. `exists_one`: whether there is any
-- that lives, able or not: then nobody may sign with a key that caches do not know yet.
create function keyfleet.choose_lender(
  p_issuer keyfleet.issuer, p_now timestamptz, out kid text, out exists_one boolean
) language plpgsql as $$
declare
  mature_since timestamptz := p_now - (p_issuer).propagation_delay;
  may_judge boolean := keyfleet.is_connected_for((p_issuer).instance_id, interval '15 seconds', p_now);
begin
  if (p_issuer).hearing then
    select k.kid into kid
      from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
      where k.kid = any ((p_issuer).lenders)
        and k.published_at <= mature_since
        and keyfleet.may_sign(k, p_issuer, p_now)
        and i.listening and keyfleet.lives(i, true, p_now)
        and i.id <> all ((p_issuer).avoided)
        -- Nothing is lent to an instance that was stopped, revoked or never there.
        and exists (select from keyfleet.instances me
          where me.id = (p_issuer).instance_id and me.stopped_at is null and me.revoked_at is null)
      order by random()
      limit 1
      for share of k;
  end if;
  exists_one := kid is not null or exists (
    select from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where k.kid = any ((p_issuer).lenders)
      and k.published_at <= mature_since
      and keyfleet.may_sign(k, p_issuer, p_now)
      and keyfleet.lives(i, may_judge, p_now));
end $$;

-- Chooses the key that signs at p_now and holds it FOR SHARE: own mature, else another's mature, else the own oldest.
-- A key that was retired or revoked while its lock was waited for is re-checked, and passed over.
create or replace function keyfleet.choose_signing_key(
  p_issuer keyfleet.issuer, p_now timestamptz, out kid text, out mature boolean
) language plpgsql as $$
declare
  mature_since timestamptz := p_now - (p_issuer).propagation_delay;
  lender record;
begin
  select k.kid into kid from keyfleet.signing_keys k
    where k.kid = any ((p_issuer).candidates) and k.published_at <= mature_since
      and keyfleet.may_sign(k, p_issuer, p_now)
    order by k.published_at, k.kid limit 1 for share;
  mature := true;
  if kid is not null then return; end if;

  lender := keyfleet.choose_lender(p_issuer, p_now);
  kid := lender.kid;
  if lender.exists_one then return; end if;

  mature := false;
  select k.kid into kid from keyfleet.signing_keys k
    where k.kid = any ((p_issuer).candidates) and keyfleet.may_sign(k, p_issuer, p_now)
    order by k.published_at, k.kid limit 1 for share;
  if kid is not null then return; end if;
  perform from keyfleet.instances i
    where i.id <> (p_issuer).instance_id and keyfleet.lives(i, false, p_now);
  if found then return; end if;
  select k.kid into kid from keyfleet.signing_keys k
    where k.kid = any ((p_issuer).unsettled) and keyfleet.may_sign(k, p_issuer, p_now)
    order by k.published_at, k.kid limit 1 for share;
end $$;

-- A login whose signature could not be had leaves nothing behind: nobody was given the session.
create function keyfleet.abandon_session(p_session_id uuid, p_jti text) returns void language plpgsql as $$
begin
  delete from keyfleet.issued_tokens t where t.jti = p_jti and t.session_id = p_session_id;
  delete from keyfleet.sessions s where s.id = p_session_id and s.generation = 0 and s.ended_at is null;
end $$;

-- A refresh whose signature could not be had: the grace of the token that was presented counts from now, and the try
-- is none of its uses. p_next is the row's moving part with a new time, sealed anew.
create function keyfleet.renew_refresh_grace(
  p_session_id uuid, p_next keyfleet.sessions
) returns void language sql as $$
  update keyfleet.sessions s set
    rotated_at = p_next.rotated_at,
    refresh_seal_secret_id = p_next.refresh_seal_secret_id,
    refresh_seal = p_next.refresh_seal,
    grace_uses = greatest(0, s.grace_uses - 1)
    where s.id = p_session_id and s.ended_at is null
      and s.refresh_hash = p_next.refresh_hash and s.parent_hash = p_next.parent_hash
      and p_next.rotated_at between s.rotated_at and pg_catalog.clock_timestamp() + interval '500 milliseconds'
$$;

-- Begins another epoch, for records of tokens may be gone that were there at p_known_at. False where one has begun since:
-- the whole fleet notices a restored backup, one after the other.
create function keyfleet.begin_epoch_after(p_known_at timestamptz, p_seen_number bigint) returns boolean
language plpgsql as $$
begin
  update keyfleet.fleet_state set
    epoch = replace(gen_random_uuid()::text, '-', ''),
    complete_since = pg_catalog.clock_timestamp(),
    revocation_number = greatest(revocation_number, p_seen_number),
    cluster_identity = keyfleet.cluster_identity()
    where complete_since <= p_known_at;
  return found;
end $$;

-- A sign of life. Outcomes: alive; unknown: no such row; revoked; stopped; duplicated: another process beats under this
-- id, whose keys both may hold, so it is stopped. A row that is older than p_last_beat_at is of a restored backup, and no
-- other process.
create function keyfleet.beat(
  p_instance_id uuid, p_expected text, p_beat text, p_last_beat_at timestamptz, p_listening boolean,
  out outcome text, out beat_at timestamptz
) language plpgsql as $$
declare
  i keyfleet.instances;
begin
  select * into i from keyfleet.instances where id = p_instance_id for update;
  if not found then
    if p_last_beat_at is not null then perform keyfleet.begin_epoch_after(p_last_beat_at, 0); end if;
    outcome := 'unknown'; return;
  end if;
  if i.revoked_at is not null then outcome := 'revoked'; return; end if;
  if i.stopped_at is not null then outcome := 'stopped'; return; end if;
  if i.beat not in (p_expected, p_beat) then
    if i.heartbeat_at <= p_last_beat_at then
      perform keyfleet.begin_epoch_after(p_last_beat_at, 0);
    else
      perform keyfleet.stop_instance(p_instance_id);
      perform keyfleet.audit(('instance:' || p_instance_id, p_instance_id, null),
        'instance_duplicated', null, null, null, null, null);
      outcome := 'duplicated'; return;
    end if;
  end if;
  outcome := 'alive';
  beat_at := date_trunc('milliseconds', pg_catalog.clock_timestamp());
  update keyfleet.instances set
    heartbeat_at = beat_at,
    connected_since = case when keyfleet.is_silent(i.heartbeat_at, beat_at) then beat_at else i.connected_since end,
    beat = p_beat,
    listening = p_listening
    where id = p_instance_id;
end $$;

-- Ends those keys of an instance that sign now, and those that would from p_spared_until on. Its row is held locked by
-- whoever calls. The keys are locked before the clock is read: a statement that issues under one of them, and holds it
-- FOR SHARE, is waited for. A key that signed nothing that is still valid leaves the JWKS at once.
create function keyfleet.end_keys(
  p_instance_id uuid, p_spared_until interval, p_detail text, p_who keyfleet.acting
) returns void language plpgsql as $$
declare
  now_at timestamptz;
  ended record;
begin
  perform from keyfleet.signing_keys k where k.instance_id = p_instance_id for update;
  now_at := pg_catalog.clock_timestamp();
  for ended in
    update keyfleet.signing_keys k set retired_early_at = case
        when k.activates_at > now_at or exists (select from keyfleet.issued_tokens t where t.kid = k.kid) then now_at
        else k.activates_at - interval '1 millisecond' end
      where k.instance_id = p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at
        and (k.activates_at <= now_at or k.activates_at >= now_at + p_spared_until)
      returning k.kid, case when keyfleet.key_retirement(k) < k.activates_at then 'key_withdrawn' else 'key_retired' end
        as event
  loop
    perform keyfleet.audit(p_who, ended.event, null, null, null, ended.kid, p_detail);
  end loop;
end $$;

-- Ends an instance: first its row, so that it publishes no more, then its keys.
create or replace function keyfleet.stop_instance(p_instance_id uuid) returns void language plpgsql as $$
begin
  update keyfleet.instances i set stopped_at = coalesce(i.stopped_at, pg_catalog.clock_timestamp())
    where i.id = p_instance_id;
  perform keyfleet.end_keys(p_instance_id, interval '0', null, ('instance:' || p_instance_id, p_instance_id, null));
end $$;

-- Ends the keys of instances that have been silent for a minute, where p_by was here all that time. Its next key is
-- spared until a minute before it signs. The row is locked: one that beats at this moment is not lost. Returns whose.
create function keyfleet.retire_lost_instances(p_by uuid) returns setof uuid language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
  lost record;
begin
  if not keyfleet.is_connected_for(p_by, interval '60 seconds', now_at) then return; end if;
  for lost in
    select i.id from keyfleet.instances i
      where i.id <> p_by and keyfleet.is_dead(i.heartbeat_at, now_at)
        and exists (select from keyfleet.signing_keys k
          where k.instance_id = i.id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at
            and (k.activates_at <= now_at or k.activates_at >= now_at + interval '60 seconds'))
      order by i.id
      for update skip locked
  loop
    perform keyfleet.end_keys(lost.id, interval '60 seconds', 'lost', ('instance:' || p_by, p_by, null));
    return next lost.id;
  end loop;
end $$;

create function keyfleet.give_up_place(p_instance_id uuid) returns void language sql as $$
  update keyfleet.instances i set leaving_at = coalesce(i.leaving_at, pg_catalog.clock_timestamp())
    where i.id = p_instance_id
$$;

-- Whether an instance that leaves is needed no more: another that stays has a mature key, or nobody else is there.
create function keyfleet.may_leave(p_instance_id uuid, p_propagation_delay interval) returns boolean
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
begin
  perform from keyfleet.instances i
    where i.id <> p_instance_id and i.leaving_at is null and keyfleet.lives(i, false, now_at);
  if not found then return true; end if;
  perform from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where i.id <> p_instance_id and i.leaving_at is null and i.listening and keyfleet.lives(i, true, now_at)
      and k.revoked_at is null and k.published_at <= now_at - p_propagation_delay
      and k.activates_at <= now_at and keyfleet.key_retirement(k) > now_at;
  return found;
end $$;

-- Whether one more instance may publish a ring: a place is free among the signers, and beside its two keys there is
-- room for every signer's next, for at most 90 keys are unexpired (consumers' limits begin at 100 keys, and at 16 KB).
create function keyfleet.has_place(p_instance_id uuid, p_max_signers integer) returns boolean
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
  signers integer;
  unexpired integer;
begin
  select count(distinct k.instance_id) into signers
    from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where k.instance_id <> p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at
      and i.leaving_at is null
      and keyfleet.lives(i, keyfleet.is_connected_for(p_instance_id, interval '15 seconds', now_at), now_at);
  select count(*) into unexpired from keyfleet.signing_keys k
    where k.revoked_at is null and keyfleet.key_expiry(k) > now_at;
  return signers < p_max_signers and unexpired + 2 + signers <= 90;
end $$;

-- Publishes a key, or finds that it is published already (the answer to a first try may have been lost). Places are
-- counted after the lock, in a statement of its own: one that waited for the lock would count by an old snapshot.
-- Outcomes: published, clock_differs, instance_ended, ring_revoked: the key was made in a memory that is suspect since;
-- no_place.
create function keyfleet.publish_key(p_key keyfleet.signing_keys, p_made_at timestamptz, p_max_signers integer)
returns text language plpgsql as $$
declare
  now_at timestamptz;
begin
  perform from keyfleet.instances i
    where i.id = p_key.instance_id and i.stopped_at is null and i.revoked_at is null and i.leaving_at is null for share;
  if not found then return 'instance_ended'; end if;
  perform from keyfleet.signing_keys k where k.kid = p_key.kid and k.instance_id = p_key.instance_id;
  if found then return 'published'; end if;
  now_at := pg_catalog.clock_timestamp();
  if abs(extract(epoch from now_at - p_key.published_at)) > 0.5 then return 'clock_differs'; end if;
  perform from keyfleet.signing_keys k
    where k.instance_id = p_key.instance_id and k.revoked_at >= p_made_at;
  if found then return 'ring_revoked'; end if;
  if exists (select from keyfleet.signing_keys k
    where k.instance_id = p_key.instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at)
  then
    perform pg_catalog.pg_advisory_xact_lock(hashtextextended('keyfleet signers', 0));
    if (select count(*) from keyfleet.signing_keys k
      where k.revoked_at is null and keyfleet.key_expiry(k) > pg_catalog.clock_timestamp()) >= 90
    then return 'no_place'; end if;
  else
    -- Most who ask find no place: they need not wait for each other.
    if not keyfleet.has_place(p_key.instance_id, p_max_signers) then return 'no_place'; end if;
    perform pg_catalog.pg_advisory_xact_lock(hashtextextended('keyfleet signers', 0));
    if not keyfleet.has_place(p_key.instance_id, p_max_signers) then return 'no_place'; end if;
  end if;
  insert into keyfleet.signing_keys
    (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, secret_id, seal)
  values
    (p_key.kid, p_key.instance_id, p_key.alg, p_key.x, p_key.published_at, p_key.activates_at, p_key.retires_at,
     p_key.expires_at, p_key.secret_id, p_key.seal);
  perform keyfleet.audit(('instance:' || p_key.instance_id, p_key.instance_id, null),
    'key_published', null, null, null, p_key.kid, null);
  return 'published';
end $$;

-- Puts back what a restored backup lacks of keys that an instance has seen: rows, earlier ends, revocations. Such a key
-- is no first publication, so its times are not held against the clock. Returns how many rows were not as they are now.
create function keyfleet.restore_keys(p_keys keyfleet.signing_keys[]) returns integer
language plpgsql as $$
declare
  kids text[];
  revoked text[];
  forget_at timestamptz;
  now_at timestamptz := pg_catalog.clock_timestamp();
begin
  insert into keyfleet.instances (id, host, process_id, started_at, heartbeat_at, connected_since)
    select distinct k.instance_id, '', 0, now_at, to_timestamp(0), now_at from unnest(p_keys) k
    order by k.instance_id
    on conflict (id) do nothing;
  with given as (select k.* from unnest(p_keys) k where keyfleet.key_expiry(k) > now_at order by k.kid),
  changed as (
    insert into keyfleet.signing_keys as stored
      (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, retired_early_at, revoked_at,
       secret_id, seal)
    select kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, retired_early_at, revoked_at,
      secret_id, seal from given
    on conflict (kid) do update set
      revoked_at = coalesce(stored.revoked_at, excluded.revoked_at),
      retired_early_at = least(stored.retired_early_at, excluded.retired_early_at)
      where stored.revoked_at is null and excluded.revoked_at is not null
         or excluded.retired_early_at < coalesce(stored.retired_early_at, 'infinity')
    returning stored.kid, stored.revoked_at, keyfleet.key_expiry(stored) as expires_at
  )
  select coalesce(array_agg(c.kid), '{}'), coalesce(array_agg(c.kid) filter (where c.revoked_at is not null), '{}'),
         max(c.expires_at) into kids, revoked, forget_at from changed c;
  perform keyfleet.audit((null, null, null), 'key_restored', null, null, null, kid, null) from unnest(kids) as kid;
  perform keyfleet.revoke('key', revoked, now_at, greatest(forget_at, keyfleet.forget_after(now_at)));
  return cardinality(kids);
end $$;

-- As confirm_epoch, and also where the instance's last sign of life is gone.
create function keyfleet.check_epoch(
  p_seen_number bigint, p_instance_id uuid, p_registering boolean, p_last_beat_at timestamptz
) returns boolean language plpgsql as $$
begin
  if p_last_beat_at is not null and not exists (select from keyfleet.instances i
      where i.id = p_instance_id and i.heartbeat_at >= p_last_beat_at)
    and keyfleet.begin_epoch_after(p_last_beat_at, p_seen_number)
  then
    return true;
  end if;
  return keyfleet.confirm_epoch(p_seen_number, p_instance_id, p_registering);
end $$;
