-- Version 2: those that wait for their turns at a head say what they want, and whoever has the turn commits it for them.

-- What those that wait for their turns ask for, and the answers. Nothing rests on a row when its caller has gone, so the table need not
-- survive a crash, and asking waits for no flush of the log. A caller keeps its row for its next ask, which replaces this one on the same page:
-- so the table stays small, and its index as it is. Rows are swept when they were not used for a while.
CREATE UNLOGGED TABLE @schema@.ask (
	line     bigint NOT NULL, -- in which it waits: the number of an advisory lock
	slot     bigint NOT NULL, -- a random number of the caller's
	serial   bigint NOT NULL, -- rises with each ask in the slot
	kind     text COLLATE "C" NOT NULL DEFAULT '', -- this and the next two are the key of the head
	pool     text COLLATE "C" NOT NULL DEFAULT '',
	name     text COLLATE "C" NOT NULL DEFAULT '',
	ask      bytea, -- null if it waits no more
	answer   bytea,
	revision bigint, -- of the commit that answered
	at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- when it was asked, or answered
	PRIMARY KEY (line, slot)
) WITH (fillfactor = 50);

-- join_line waits for a turn in a line, in a transaction. Of one that asks for nothing, the slot is 0. It returns a row
--   answer  bytes is the answer of the commit with the revision; the turn is over
--   lost    the ask is not there any more; the turn is over
-- or else the turn, as lead does.
CREATE FUNCTION @schema@.join_line(
	own_line bigint, own_slot bigint, own_serial bigint, head_kind text, head_pool text, head_name text, longest integer, is_sweeping boolean
) RETURNS TABLE (
	what text, bytes bytea, found_slot bigint, found_serial bigint, found_revision bigint, found_state text, found_prefixes cidr[],
	found_created timestamptz, found_expires timestamptz, found_data text
) LANGUAGE plpgsql ROWS 1
AS $ipalloc$
#variable_conflict use_column
DECLARE
	waits boolean;
BEGIN
	-- What was answered gives the lock back at once, by the end of this block: the next one in the line waits for it.
	BEGIN
		PERFORM pg_advisory_xact_lock(own_line);
		IF own_slot <> 0 THEN
			SELECT a.ask IS NOT NULL, a.answer, a.revision INTO waits, bytes, found_revision
				FROM @schema@.ask a WHERE a.line = own_line AND a.slot = own_slot AND a.serial = own_serial;
			IF waits IS NOT TRUE THEN
				RAISE no_data_found;
			END IF;
		END IF;
	EXCEPTION WHEN no_data_found THEN
		what := CASE WHEN bytes IS NULL THEN 'lost' ELSE 'answer' END;
		RETURN NEXT;
		RETURN;
	END;
	PERFORM set_config('idle_in_transaction_session_timeout', longest::text, true);
	RETURN QUERY SELECT l.* FROM @schema@.lead(own_line, own_slot, head_kind, head_pool, head_name) l;
	IF is_sweeping THEN
		PERFORM @schema@.sweep();
	END IF;
END
$ipalloc$;

-- lead returns what there is at the beginning of a turn:
--   head  the record, if there is one, locked
--   ask   for each of those who wait: their slot and serial, and in bytes what they ask for. The callers of old ones may have died.
CREATE FUNCTION @schema@.lead(own_line bigint, own_slot bigint, head_kind text, head_pool text, head_name text) RETURNS TABLE (
	what text, bytes bytea, found_slot bigint, found_serial bigint, found_revision bigint, found_state text, found_prefixes cidr[],
	found_created timestamptz, found_expires timestamptz, found_data text
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $ipalloc$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT 'head', NULL::bytea, 0::bigint, 0::bigint, r.revision, r.state, r.prefixes, r.created, r.expires, r.data::text
		FROM @schema@.record r WHERE r.kind = head_kind AND r.pool = head_pool AND r.name = head_name FOR UPDATE;
	RETURN QUERY
		SELECT 'ask', w.ask, w.slot, w.serial, 0::bigint, NULL::text, NULL::cidr[], NULL::timestamptz, NULL::timestamptz, NULL::text
		FROM (
			SELECT a.*, sum(length(a.ask)) OVER (ORDER BY a.at, a.slot) AS total FROM @schema@.ask a
			WHERE a.line = own_line AND a.slot <> own_slot AND a.ask IS NOT NULL AND a.at > clock_timestamp() - interval '5 seconds'
				AND a.kind = head_kind AND a.pool = head_pool AND a.name = head_name
			ORDER BY a.at, a.slot LIMIT 64
		) w WHERE w.total <= 1048576 ORDER BY w.at, w.slot;
END
$ipalloc$;

-- sweep removes rows of callers that have gone, but for those that others are about to change.
CREATE FUNCTION @schema@.sweep() RETURNS void LANGUAGE plpgsql
AS $ipalloc$
BEGIN
	DELETE FROM @schema@.ask a WHERE a.ctid = ANY (ARRAY(
		SELECT o.ctid FROM @schema@.ask o WHERE o.at < clock_timestamp() - interval '1 minute' LIMIT 1000 FOR UPDATE SKIP LOCKED
	));
END
$ipalloc$;

-- apply_turn is apply with answers, which are given with the commit or not at all. One that is null takes the ask back, which is the caller's.
CREATE FUNCTION @schema@.apply_turn(
	heads integer, ops text[], expected bigint[], kinds text[], pools text[], names text[], states text[], prefixes text[],
	created timestamptz[], expires timestamptz[], data text[], changed text,
	own_line bigint, slots bigint[], serials bigint[], answers bytea[]
) RETURNS TABLE (
	outcome text, "position" integer, stored_revision bigint, stored_state text, stored_prefixes cidr[],
	stored_created timestamptz, stored_expires timestamptz, stored_data text
) LANGUAGE plpgsql ROWS 1
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	given integer;
BEGIN
	FOR outcome, position, stored_revision, stored_state, stored_prefixes, stored_created, stored_expires, stored_data IN
		SELECT * FROM @schema@.apply(heads, ops, expected, kinds, pools, names, states, prefixes, created, expires, data, changed)
	LOOP
		RETURN NEXT;
	END LOOP;
	IF outcome IS DISTINCT FROM 'done' THEN
		RETURN;
	END IF;
	UPDATE @schema@.ask a
		SET ask = NULL, answer = w.answer, revision = CASE WHEN w.answer IS NOT NULL THEN stored_revision END, at = clock_timestamp()
		FROM unnest(slots, serials, answers) AS w (slot, serial, answer)
		WHERE a.line = own_line AND a.slot = w.slot AND a.serial = w.serial AND a.ask IS NOT NULL;
	GET DIAGNOSTICS given = ROW_COUNT;
	IF given <> cardinality(slots) THEN
		RAISE EXCEPTION USING ERRCODE = 'IPA01', MESSAGE = 'one that was to be answered has left';
	END IF;
END
$ipalloc$;

-- withdraw takes an ask back. It returns
--   answer  if it was answered, with the answer and the revision
--   none    if it was not, and will not be, also if it comes later
--   lost    if nothing is known of it
CREATE FUNCTION @schema@.withdraw(own_line bigint, own_slot bigint, own_serial bigint) RETURNS TABLE (what text, bytes bytea, found_revision bigint)
LANGUAGE plpgsql ROWS 1
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $ipalloc$
#variable_conflict use_column
DECLARE
	found_serial bigint;
BEGIN
	-- A commit that is about to answer has locked it.
	SELECT a.serial, a.answer, a.revision INTO found_serial, bytes, found_revision
		FROM @schema@.ask a WHERE a.line = own_line AND a.slot = own_slot FOR UPDATE;
	what := 'none';
	IF found_serial = own_serial THEN
		UPDATE @schema@.ask a SET ask = NULL WHERE a.line = own_line AND a.slot = own_slot;
		IF bytes IS NOT NULL THEN
			what := 'answer';
		END IF;
	ELSIF found_serial < own_serial THEN
		-- It has not come yet. If it does, it finds this, which therefore is kept for long.
		UPDATE @schema@.ask a SET ask = NULL, answer = NULL, serial = own_serial, at = clock_timestamp() + interval '1 hour'
			WHERE a.line = own_line AND a.slot = own_slot;
		bytes := NULL;
	ELSE
		what := 'lost';
	END IF;
	RETURN NEXT;
END
$ipalloc$;

-- get_all returns those of the records that exist, with their positions among the keys.
CREATE FUNCTION @schema@.get_all(kinds text[], pools text[], names text[]) RETURNS TABLE (
	"position" bigint, revision bigint, state text, prefixes cidr[], created timestamptz, expires timestamptz, data text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $ipalloc$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		SELECT w.n, r.revision, r.state, r.prefixes, r.created, r.expires, r.data::text
		FROM unnest(kinds, pools, names) WITH ORDINALITY AS w (kind, pool, name, n)
		JOIN @schema@.record r ON r.kind = w.kind AND r.pool = w.pool AND r.name = w.name;
END
$ipalloc$;

INSERT INTO @schema@.migration (version) VALUES (2);
