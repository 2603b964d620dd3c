-- Version 1 of the tables in which ipalloc keeps its pools, for the client programs mysql and mariadb. @schema@ stands for the name of
-- their schema, quoted. All statements may be run again if they were interrupted. They use only what MySQL 8.0 and MariaDB 10.11 both have.
DELIMITER //

CREATE DATABASE IF NOT EXISTS @schema@ CHARACTER SET utf8mb4
//

-- What the procedures do must not depend on the modes of the session that calls them: they keep the modes that are set here.
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'
//

CREATE TABLE IF NOT EXISTS @schema@.migration (
	version integer NOT NULL PRIMARY KEY,
	applied datetime(6) NOT NULL
) ENGINE = InnoDB
//

-- Where revisions come from: a counter that never goes back. The table itself is empty, but for what commits that run have in it.
CREATE TABLE IF NOT EXISTS @schema@.revision (
	id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY
) ENGINE = InnoDB
//

-- All records. Keys are bytes: no collation that both servers have compares texts just as they are. The views below show them as text.
CREATE TABLE IF NOT EXISTS @schema@.record (
	kind     varbinary(1024) NOT NULL,
	pool     varbinary(1024) NOT NULL,
	name     varbinary(1024) NOT NULL,
	revision bigint NOT NULL,
	state    varchar(1024) NOT NULL,
	prefixes longtext NOT NULL, -- a JSON array
	labels   longtext NOT NULL, -- a JSON object
	created  datetime(6), -- this and the next are in UTC
	expires  datetime(6),
	data     longtext, -- JSON, kept as it came; the type json of MySQL would round numbers
	PRIMARY KEY (kind, pool, name),
	KEY record_expires (kind, pool, expires)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
//

-- What the records of kind allocation and cooling hold, in one row for each prefix that is not in another one of the same record. No two
-- rows of a pool overlap: the primary key sees to it that they do not begin with the same address, and the procedure apply to the rest.
CREATE TABLE IF NOT EXISTS @schema@.address (
	pool   varbinary(1024) NOT NULL,
	family tinyint NOT NULL, -- 4 or 6
	first  varbinary(16) NOT NULL, -- the first address, as INET6_ATON gives it: 4 bytes or 16
	last   varbinary(16) NOT NULL, -- the last address
	kind   varbinary(1024) NOT NULL,
	name   varbinary(1024) NOT NULL,
	prefix varchar(43) CHARACTER SET ascii NOT NULL,
	PRIMARY KEY (pool, family, first),
	KEY address_first (family, first),
	KEY address_holder (pool, name, kind)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
//

-- The labels of the records of kind allocation and history, in one row for each. A label may be longer than what an index takes, so that has
-- its hash: the SHA-256 of the kind, a colon, the length of its name in bytes, a colon, its name and its value.
CREATE TABLE IF NOT EXISTS @schema@.label (
	kind  varbinary(1024) NOT NULL,
	pool  varbinary(1024) NOT NULL,
	hash  binary(32) NOT NULL,
	name  varbinary(1024) NOT NULL, -- of the record
	label longtext NOT NULL,
	value longtext NOT NULL,
	PRIMARY KEY (pool, hash, name),
	KEY label_holder (pool, name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
//

-- What those that wait for their turns ask for. A row is there as long as its caller waits, in a transaction of the caller's that is never
-- committed: those that have the turn read it all the same, and it goes when the caller goes, however that is.
CREATE TABLE IF NOT EXISTS @schema@.ask (
	serial bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
	line   char(32) NOT NULL, -- in which it waits: the name of a lock
	id     binary(16) NOT NULL, -- which the caller has drawn
	ask    mediumblob NOT NULL,
	at     datetime(6) NOT NULL,
	KEY ask_line (line, serial)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET ascii COLLATE ascii_bin
//

-- What became of asks: the answer, or null for one that was withdrawn. Whichever comes first takes the place of the other.
CREATE TABLE IF NOT EXISTS @schema@.answer (
	line     char(32) NOT NULL,
	id       binary(16) NOT NULL,
	answer   longblob,
	revision bigint, -- of the commit that answered
	at       datetime(6) NOT NULL,
	PRIMARY KEY (line, id),
	KEY answer_at (line, at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET ascii COLLATE ascii_bin
//

-- The pools: data has the specification, the counts and the free space.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW @schema@.pool AS
	SELECT CONVERT(r.pool USING utf8mb4) AS pool, r.created, r.revision, r.data
	FROM @schema@.record r WHERE r.kind = 'pool'
//

-- Who holds what, in one row for each owner.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW @schema@.allocation AS
	SELECT CONVERT(r.kind USING utf8mb4) AS kind, CONVERT(r.pool USING utf8mb4) AS pool, CONVERT(r.name USING utf8mb4) AS owner,
		r.state, r.prefixes, r.labels, r.created, r.expires, r.revision, r.data
	FROM @schema@.record r WHERE r.kind IN ('allocation', 'cooling')
//

-- Who holds what, in one row for each prefix. The columns family, first and last are searched with an index.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW @schema@.holding AS
	SELECT a.prefix, CONVERT(a.pool USING utf8mb4) AS pool, CONVERT(a.kind USING utf8mb4) AS kind, CONVERT(a.name USING utf8mb4) AS owner,
		r.state, r.labels, r.created, r.expires, a.family, a.first, a.last, r.revision
	FROM @schema@.address a JOIN @schema@.record r ON r.kind = a.kind AND r.pool = a.pool AND r.name = a.name
//

-- Who held and holds what, from when and until when, in one row for each owner. ended and how are null for what goes on. What an owner
-- shares stands in its data.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW @schema@.tenure AS
	SELECT CONVERT(r.pool USING utf8mb4) AS pool, JSON_UNQUOTE(JSON_EXTRACT(r.labels, '$."ipalloc.owner"')) AS owner, r.prefixes,
		r.created AS began, STR_TO_DATE(JSON_UNQUOTE(JSON_EXTRACT(r.data, '$.to')), '%Y-%m-%dT%H:%i:%s.%fZ') AS ended, r.state AS how, r.labels
	FROM @schema@.record r WHERE r.kind = 'history'
	UNION ALL
	SELECT CONVERT(r.pool USING utf8mb4), CONVERT(r.name USING utf8mb4), COALESCE(JSON_EXTRACT(r.data, '$.prefixes'), r.prefixes),
		COALESCE(STR_TO_DATE(JSON_UNQUOTE(JSON_EXTRACT(r.data, '$.since')), '%Y-%m-%dT%H:%i:%s.%fZ'), r.created), NULL, NULL, r.labels
	FROM @schema@.record r WHERE r.kind = 'allocation' AND r.state = 'allocated'
//

-- enter_lines waits for locks, whose names have 32 bytes each, one after the other. A session that does nothing while it has locks is ended
-- after a second, should nobody have ended it before; see oust.
DROP PROCEDURE IF EXISTS @schema@.enter_lines
//
CREATE PROCEDURE @schema@.enter_lines(IN v_locks longtext CHARACTER SET ascii, IN v_patience integer) SQL SECURITY INVOKER
BEGIN
	DECLARE v_at integer DEFAULT 1;
	WHILE v_at < LENGTH(v_locks) DO
		IF COALESCE(GET_LOCK(SUBSTRING(v_locks, v_at, 32), v_patience), 0) <> 1 THEN
			SIGNAL SQLSTATE 'IPA02' SET MESSAGE_TEXT = 'the wait for the turn of others was too long';
		END IF;
		SET v_at = v_at + 32;
	END WHILE;
	IF @ipalloc_wait_timeout IS NULL THEN
		SET @ipalloc_wait_timeout = @@SESSION.wait_timeout;
		SET SESSION wait_timeout = 1;
	END IF;
END
//

-- leave_lines gives all locks of the session back, and puts its settings back.
DROP PROCEDURE IF EXISTS @schema@.leave_lines
//
CREATE PROCEDURE @schema@.leave_lines() SQL SECURITY INVOKER
BEGIN
	DO RELEASE_ALL_LOCKS();
	IF @ipalloc_wait_timeout IS NOT NULL THEN
		SET SESSION wait_timeout = @ipalloc_wait_timeout;
		SET @ipalloc_wait_timeout = NULL;
	END IF;
	IF @ipalloc_row_timeout IS NOT NULL THEN
		SET SESSION innodb_lock_wait_timeout = @ipalloc_row_timeout;
		SET @ipalloc_row_timeout = NULL;
	END IF;
END
//

-- oust ends the session that has had a lock for too long, unless it has just given the lock back, or is at work: then it gives it back soon.
DROP PROCEDURE IF EXISTS @schema@.oust
//
CREATE PROCEDURE @schema@.oust(IN v_lock char(32) CHARACTER SET ascii, IN v_session bigint) SQL SECURITY INVOKER
BEGIN
	DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; -- it has ended by itself
	IF IS_USED_LOCK(v_lock) = v_session AND EXISTS (
		SELECT 1 FROM information_schema.processlist p WHERE p.id = v_session AND p.command = 'Sleep'
	) THEN
		KILL CONNECTION v_session;
	END IF;
END
//

-- apply is a commit, in a transaction of its own.
--   locks      of the heads, for which it waits, but for those that the session has
--   patience   for how many seconds it waits for each lock; for a row it waits a second less
--   items      a JSON array: first the heads, then the writes, each in the order of their keys, deletes before the others. Each has
--              op, which is h: replace this head; x: delete this head; d: delete; c: create; p: put
--              r, of a head: the revision that it must have, 0 for none
--              k, p, n, s, a, l, b, e, d: kind, pool, name, state, prefixes, labels, created, expires, data
--   addresses  a JSON array of what the records that it writes are to hold: k, p, n, f, l, a for kind, pool, name, first, last, prefix
--   labels     a JSON array of the labels of the records that it writes: k, p, n, h, l, v for kind, pool, name, hash, label, value
--   line       if it gives answers: in which the asks wait
--   answers    a JSON array of these: i, a for id, answer
-- It first returns one of
--   done      with the revision; then it commits
--   conflict  with one head that is not at its revision, as it is; a revision of 0 if it is not there
--   exists    for each record to be created that exists, as it is
--   overlap   with a prefix that was to be held, and a standing one with which it overlaps
--   left      if one that was to be answered has left
-- and has changed nothing, but for done. It gives all locks of the session back, whatever happens.
DROP PROCEDURE IF EXISTS @schema@.apply
//
CREATE PROCEDURE @schema@.apply(
	IN v_locks longtext CHARACTER SET ascii, IN v_patience integer, IN v_items longtext CHARACTER SET utf8mb4,
	IN v_addresses longtext CHARACTER SET utf8mb4, IN v_labels longtext CHARACTER SET utf8mb4, IN v_line char(32) CHARACTER SET ascii,
	IN v_answers longtext CHARACTER SET utf8mb4
) SQL SECURITY INVOKER
apply: BEGIN
	DECLARE v_new, v_expected, v_found bigint DEFAULT 0;
	DECLARE v_number integer;
	DECLARE v_over, v_exists boolean DEFAULT FALSE;
	DECLARE v_op char(1) CHARACTER SET ascii;
	DECLARE v_kind, v_pool, v_name varbinary(1024);
	DECLARE v_state varchar(1024) CHARACTER SET utf8mb4;
	DECLARE v_prefixes, v_own_labels, v_data longtext CHARACTER SET utf8mb4;
	DECLARE v_created, v_expires datetime(6);
	DECLARE v_items_cursor CURSOR FOR
		SELECT w.number, w.op, w.expected, w.kind, w.pool, w.name, w.state, w.prefixes, w.labels, w.created, w.expires,
			w.data
		FROM JSON_TABLE(v_items, '$[*]' COLUMNS (
			number FOR ORDINALITY,
			op varchar(1) CHARACTER SET utf8mb4 PATH '$.o' ERROR ON ERROR,
			expected bigint PATH '$.r' DEFAULT '0' ON EMPTY ERROR ON ERROR,
			kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
			pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
			name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR,
			state varchar(1024) CHARACTER SET utf8mb4 PATH '$.s' ERROR ON ERROR,
			prefixes longtext CHARACTER SET utf8mb4 PATH '$.a' ERROR ON ERROR,
			labels longtext CHARACTER SET utf8mb4 PATH '$.l' ERROR ON ERROR,
			created varchar(26) CHARACTER SET utf8mb4 PATH '$.b' NULL ON EMPTY ERROR ON ERROR,
			expires varchar(26) CHARACTER SET utf8mb4 PATH '$.e' NULL ON EMPTY ERROR ON ERROR,
			data longtext CHARACTER SET utf8mb4 PATH '$.d' NULL ON EMPTY ERROR ON ERROR
		)) AS w ORDER BY w.number;
	DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
	DECLARE EXIT HANDLER FOR SQLEXCEPTION
	BEGIN
		ROLLBACK;
		CALL @schema@.leave_lines();
		RESIGNAL;
	END;

	CALL @schema@.enter_lines(v_locks, v_patience);
	-- Nobody can tell the server that the caller has given up, so it waits for rows no longer than the caller does.
	SET @ipalloc_row_timeout = @@SESSION.innodb_lock_wait_timeout;
	SET SESSION innodb_lock_wait_timeout = LEAST(@ipalloc_row_timeout, GREATEST(1, v_patience - 1));
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	START TRANSACTION;

	OPEN v_items_cursor;
	items: LOOP
		FETCH v_items_cursor INTO v_number, v_op, v_expected, v_kind, v_pool, v_name, v_state, v_prefixes, v_own_labels, v_created,
			v_expires, v_data;
		IF v_over THEN
			LEAVE items;
		END IF;
		IF v_op IN ('h', 'x') THEN
			SELECT COALESCE(MAX(r.revision), 0) INTO v_found
				FROM @schema@.record r WHERE r.kind = v_kind AND r.pool = v_pool AND r.name = v_name FOR UPDATE;
			IF v_found <> v_expected THEN
				SELECT 'conflict' AS outcome, v_number AS number, COALESCE(r.revision, 0), COALESCE(r.state, ''), COALESCE(r.prefixes, '[]'),
					COALESCE(r.labels, '{}'), CAST(r.created AS CHAR), CAST(r.expires AS CHAR), r.data
					FROM (SELECT 1 AS one) o LEFT JOIN @schema@.record r ON r.kind = v_kind AND r.pool = v_pool AND r.name = v_name;
				ROLLBACK;
				CALL @schema@.leave_lines();
				LEAVE apply;
			END IF;
		END IF;

		-- Who has the locks of the heads draws a revision that is higher than any that they had.
		IF v_new = 0 THEN
			INSERT INTO @schema@.revision () VALUES ();
			SET v_new = LAST_INSERT_ID();
			DELETE FROM @schema@.revision WHERE id = v_new;
		END IF;
		IF v_op = 'p' THEN
			SELECT COALESCE(MAX(r.revision), 0) INTO v_found
				FROM @schema@.record r WHERE r.kind = v_kind AND r.pool = v_pool AND r.name = v_name FOR UPDATE;
		END IF;
		IF v_op <> 'c' AND v_kind IN ('allocation', 'cooling') THEN
			DELETE FROM @schema@.address WHERE pool = v_pool AND name = v_name AND kind = v_kind;
		END IF;
		IF v_op <> 'c' AND v_kind IN ('allocation', 'history') THEN
			DELETE FROM @schema@.label WHERE pool = v_pool AND name = v_name AND kind = v_kind;
		END IF;

		CASE
			WHEN v_op IN ('d', 'x') THEN
				DELETE FROM @schema@.record WHERE kind = v_kind AND pool = v_pool AND name = v_name;
			WHEN v_op IN ('h', 'p') AND v_found >= v_new THEN
				SIGNAL SQLSTATE 'IPA01' SET MESSAGE_TEXT = 'a record was written meanwhile by a later commit';
			WHEN v_op IN ('h', 'p') AND v_found > 0 THEN
				UPDATE @schema@.record
					SET revision = v_new, state = v_state, prefixes = v_prefixes, labels = v_own_labels, created = v_created,
						expires = v_expires, data = v_data
					WHERE kind = v_kind AND pool = v_pool AND name = v_name;
			WHEN v_op = 'c' THEN
				BEGIN
					DECLARE CONTINUE HANDLER FOR 1062 SET v_exists = TRUE;
					INSERT INTO @schema@.record (kind, pool, name, revision, state, prefixes, labels, created, expires, data)
						VALUES (v_kind, v_pool, v_name, v_new, v_state, v_prefixes, v_own_labels, v_created, v_expires, v_data);
				END;
			ELSE
				INSERT INTO @schema@.record (kind, pool, name, revision, state, prefixes, labels, created, expires, data)
					VALUES (v_kind, v_pool, v_name, v_new, v_state, v_prefixes, v_own_labels, v_created, v_expires, v_data);
		END CASE;
	END LOOP;
	CLOSE v_items_cursor;

	IF v_exists THEN
		SELECT 'exists' AS outcome, w.number, r.revision, r.state, r.prefixes, r.labels, CAST(r.created AS CHAR), CAST(r.expires AS CHAR), r.data
			FROM JSON_TABLE(v_items, '$[*]' COLUMNS (
				number FOR ORDINALITY,
				op varchar(1) CHARACTER SET utf8mb4 PATH '$.o' ERROR ON ERROR,
				kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
				pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
				name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR
			)) AS w STRAIGHT_JOIN @schema@.record r
				ON r.kind = CAST(w.kind AS BINARY) AND r.pool = CAST(w.pool AS BINARY) AND r.name = CAST(w.name AS BINARY)
			WHERE w.op = 'c' AND r.revision <> v_new;
		ROLLBACK;
		CALL @schema@.leave_lines();
		LEAVE apply;
	END IF;

	IF v_addresses IS NOT NULL THEN
		CALL @schema@.hold(v_addresses, v_exists);
		IF v_exists THEN
			ROLLBACK;
			CALL @schema@.leave_lines();
			LEAVE apply;
		END IF;
	END IF;

	IF v_labels IS NOT NULL THEN
		INSERT INTO @schema@.label (kind, pool, hash, name, label, value)
			SELECT CAST(w.kind AS BINARY), CAST(w.pool AS BINARY), UNHEX(w.hash), CAST(w.name AS BINARY), w.label, w.value
			FROM JSON_TABLE(v_labels, '$[*]' COLUMNS (
				kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
				pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
				name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR,
				hash varchar(64) CHARACTER SET utf8mb4 PATH '$.h' ERROR ON ERROR,
				label longtext CHARACTER SET utf8mb4 PATH '$.l' ERROR ON ERROR,
				value longtext CHARACTER SET utf8mb4 PATH '$.v' ERROR ON ERROR
			)) AS w;
	END IF;

	IF v_answers IS NOT NULL THEN
		BEGIN
			DECLARE CONTINUE HANDLER FOR 1062 SET v_exists = TRUE;
			INSERT INTO @schema@.answer (line, id, answer, revision, at)
				SELECT v_line, UNHEX(w.id), FROM_BASE64(w.answer), v_new, UTC_TIMESTAMP(6)
				FROM JSON_TABLE(v_answers, '$[*]' COLUMNS (
					id varchar(32) CHARACTER SET utf8mb4 PATH '$.i' ERROR ON ERROR,
					answer longtext CHARACTER SET utf8mb4 PATH '$.a' ERROR ON ERROR
				)) AS w;
		END;
		IF v_exists THEN
			SELECT 'left' AS outcome;
			ROLLBACK;
			CALL @schema@.leave_lines();
			LEAVE apply;
		END IF;
		DELETE FROM @schema@.answer WHERE line = v_line AND at < UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE LIMIT 1000;
	END IF;

	SELECT 'done' AS outcome, v_new AS revision;
	COMMIT;
	CALL @schema@.leave_lines();
END
//

-- hold notes what records hold. If that overlaps with what another holds, it says so and returns that; what it has noted must be undone then.
-- In the order of their first addresses, rows of which none overlaps with the next do not overlap at all.
DROP PROCEDURE IF EXISTS @schema@.hold
//
CREATE PROCEDURE @schema@.hold(IN v_addresses longtext CHARACTER SET utf8mb4, OUT v_overlap boolean) SQL SECURITY INVOKER
hold: BEGIN
	DECLARE v_over boolean DEFAULT FALSE;
	DECLARE v_family tinyint;
	DECLARE v_kind, v_pool, v_name varbinary(1024);
	DECLARE v_first, v_last, v_standing_first varbinary(16);
	DECLARE v_prefix, v_standing varchar(43) CHARACTER SET ascii;
	DECLARE v_cursor CURSOR FOR
		SELECT w.kind, w.pool, w.name, UNHEX(w.first), UNHEX(w.last), w.prefix
		FROM JSON_TABLE(v_addresses, '$[*]' COLUMNS (
			number FOR ORDINALITY,
			kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
			pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
			name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR,
			first varchar(32) CHARACTER SET utf8mb4 PATH '$.f' ERROR ON ERROR,
			last varchar(32) CHARACTER SET utf8mb4 PATH '$.l' ERROR ON ERROR,
			prefix varchar(43) CHARACTER SET utf8mb4 PATH '$.a' ERROR ON ERROR
		)) AS w ORDER BY w.number;
	DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;

	SET v_overlap = FALSE;
	OPEN v_cursor;
	addresses: LOOP
		FETCH v_cursor INTO v_kind, v_pool, v_name, v_first, v_last, v_prefix;
		IF v_over THEN
			LEAVE addresses;
		END IF;
		SET v_family = IF(LENGTH(v_first) = 4, 4, 6), v_standing = NULL;
		BEGIN
			DECLARE CONTINUE HANDLER FOR 1062 SET v_overlap = TRUE;
			INSERT INTO @schema@.address (pool, family, first, last, kind, name, prefix)
				VALUES (v_pool, v_family, v_first, v_last, v_kind, v_name, v_prefix);
		END;
		IF v_overlap THEN
			SELECT MAX(o.prefix) INTO v_standing FROM @schema@.address o
				WHERE o.pool = v_pool AND o.family = v_family AND o.first = v_first;
		ELSE
			SELECT MAX(o.first) INTO v_standing_first FROM @schema@.address o
				WHERE o.pool = v_pool AND o.family = v_family AND o.first < v_first;
			SELECT MAX(o.prefix) INTO v_standing FROM @schema@.address o
				WHERE o.pool = v_pool AND o.family = v_family AND o.first = v_standing_first AND o.last >= v_first;
			IF v_standing IS NULL THEN
				SELECT MIN(o.first) INTO v_standing_first FROM @schema@.address o
					WHERE o.pool = v_pool AND o.family = v_family AND o.first > v_first;
				SELECT MAX(o.prefix) INTO v_standing FROM @schema@.address o
					WHERE o.pool = v_pool AND o.family = v_family AND o.first = v_standing_first AND o.first <= v_last;
			END IF;
		END IF;
		IF v_overlap OR v_standing IS NOT NULL THEN
			SET v_overlap = TRUE;
			SELECT 'overlap' AS outcome, v_kind, v_pool, v_name, v_prefix, v_standing;
			LEAVE hold;
		END IF;
	END LOOP;
	CLOSE v_cursor;
END
//

-- take_turn waits for locks, and returns the records under the keys, which are a JSON array of k, p, n, as far as there are any.
DROP PROCEDURE IF EXISTS @schema@.take_turn
//
CREATE PROCEDURE @schema@.take_turn(
	IN v_locks longtext CHARACTER SET ascii, IN v_patience integer, IN v_keys longtext CHARACTER SET utf8mb4
) SQL SECURITY INVOKER
BEGIN
	DECLARE EXIT HANDLER FOR SQLEXCEPTION
	BEGIN
		CALL @schema@.leave_lines();
		RESIGNAL;
	END;
	CALL @schema@.enter_lines(v_locks, v_patience);
	CALL @schema@.get_all(v_keys);
END
//

-- get_all returns the records under the keys, as far as there are any.
DROP PROCEDURE IF EXISTS @schema@.get_all
//
CREATE PROCEDURE @schema@.get_all(IN v_keys longtext CHARACTER SET utf8mb4) SQL SECURITY INVOKER
BEGIN
	SELECT 'record' AS outcome, w.number, r.revision, r.state, r.prefixes, r.labels, CAST(r.created AS CHAR), CAST(r.expires AS CHAR), r.data
		FROM JSON_TABLE(v_keys, '$[*]' COLUMNS (
			number FOR ORDINALITY,
			kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
			pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
			name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR
		)) AS w STRAIGHT_JOIN @schema@.record r
			ON r.kind = CAST(w.kind AS BINARY) AND r.pool = CAST(w.pool AS BINARY) AND r.name = CAST(w.name AS BINARY);
END
//

-- revisions returns the revisions of the records under the keys, as far as there are any.
DROP PROCEDURE IF EXISTS @schema@.revisions
//
CREATE PROCEDURE @schema@.revisions(IN v_keys longtext CHARACTER SET utf8mb4) SQL SECURITY INVOKER
BEGIN
	SELECT 'revision' AS outcome, w.number, r.revision
		FROM JSON_TABLE(v_keys, '$[*]' COLUMNS (
			number FOR ORDINALITY,
			kind varchar(1024) CHARACTER SET utf8mb4 PATH '$.k' ERROR ON ERROR,
			pool varchar(1024) CHARACTER SET utf8mb4 PATH '$.p' ERROR ON ERROR,
			name varchar(1024) CHARACTER SET utf8mb4 PATH '$.n' ERROR ON ERROR
		)) AS w STRAIGHT_JOIN @schema@.record r
			ON r.kind = CAST(w.kind AS BINARY) AND r.pool = CAST(w.pool AS BINARY) AND r.name = CAST(w.name AS BINARY);
END
//

-- join_line waits for a turn in a line, with an ask that may be empty. It returns
--   answer  with the revision, if the ask was answered by the commit of that revision; the turn is over
--   lost    if nothing is known of the ask, because it has waited for too long; the turn is over
-- or else the turn: the record, as take_turn does, and
--   ask     for each of those that wait: its id and what it asks for.
-- The ask is gone when it returns; nobody answers it any more, because only the one that has the lock does.
DROP PROCEDURE IF EXISTS @schema@.join_line
//
CREATE PROCEDURE @schema@.join_line(
	IN v_line char(32) CHARACTER SET ascii, IN v_patience integer, IN v_keys longtext CHARACTER SET utf8mb4,
	IN v_id char(32) CHARACTER SET ascii, IN v_ask longblob
) SQL SECURITY INVOKER
BEGIN
	DECLARE v_came datetime(6) DEFAULT UTC_TIMESTAMP(6);
	DECLARE v_answered bigint DEFAULT 0;
	DECLARE v_lost boolean DEFAULT FALSE;
	DECLARE EXIT HANDLER FOR SQLEXCEPTION
	BEGIN
		ROLLBACK;
		CALL @schema@.leave_lines();
		RESIGNAL;
	END;

	SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; -- it is only for the asks
	START TRANSACTION;
	IF LENGTH(v_ask) > 0 THEN
		INSERT INTO @schema@.ask (line, id, ask, at) VALUES (v_line, UNHEX(v_id), v_ask, v_came);
	END IF;
	CALL @schema@.enter_lines(v_line, v_patience);
	IF LENGTH(v_ask) > 0 THEN
		SELECT COUNT(*) INTO v_answered FROM @schema@.answer a WHERE a.line = v_line AND a.id = UNHEX(v_id);
		SET v_lost = UTC_TIMESTAMP(6) > v_came + INTERVAL 5 MINUTE; -- answers are removed after ten
	END IF;
	CASE
		WHEN v_answered > 0 THEN
			SELECT 'answer' AS outcome, a.revision, a.answer FROM @schema@.answer a WHERE a.line = v_line AND a.id = UNHEX(v_id);
			ROLLBACK;
			CALL @schema@.leave_lines();
		WHEN v_lost THEN
			SELECT 'lost' AS outcome;
			ROLLBACK;
			CALL @schema@.leave_lines();
		ELSE
			SELECT 'ask' AS outcome, HEX(a.id), a.ask FROM @schema@.ask a
				WHERE a.line = v_line AND a.id <> UNHEX(v_id) AND a.at > UTC_TIMESTAMP(6) - INTERVAL 5 SECOND
					AND NOT EXISTS (SELECT 1 FROM @schema@.answer o WHERE o.line = a.line AND o.id = a.id)
				ORDER BY a.serial LIMIT 64;
			ROLLBACK;
			CALL @schema@.get_all(v_keys);
	END CASE;
END
//

-- withdraw takes an ask back. It returns answer as join_line does, or none if it was not answered, and will not be.
-- It changes the row of an answer that is there, and reads it in the same transaction. InnoDB refuses to insert beside a row that is being
-- committed a little before others see that row: a read of another transaction might find nothing. And what this one has read is on disk when
-- it has committed, since the log has both.
DROP PROCEDURE IF EXISTS @schema@.withdraw
//
CREATE PROCEDURE @schema@.withdraw(IN v_line char(32) CHARACTER SET ascii, IN v_id char(32) CHARACTER SET ascii) SQL SECURITY INVOKER
BEGIN
	DECLARE EXIT HANDLER FOR SQLEXCEPTION
	BEGIN
		ROLLBACK;
		RESIGNAL;
	END;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	START TRANSACTION;
	INSERT INTO @schema@.answer (line, id, at) VALUES (v_line, UNHEX(v_id), UTC_TIMESTAMP(6))
		ON DUPLICATE KEY UPDATE at = at + INTERVAL 1 MICROSECOND; -- after the commit that is about to answer has ended
	SELECT IF(a.answer IS NULL, 'none', 'answer') AS outcome, a.revision, a.answer
		FROM @schema@.answer a WHERE a.line = v_line AND a.id = UNHEX(v_id);
	COMMIT;
END
//

INSERT INTO @schema@.migration (version, applied) VALUES (1, UTC_TIMESTAMP(6))
//
