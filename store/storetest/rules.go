package storetest

// The rules of the contract that the suite quotes, word for word from the comments of package store.
const (
	// Get.
	ruleGet    = "Get returns the record under key, or an error that wraps ErrNotFound"
	ruleLinear = "It sees every commit that returned before Get was called, through whichever handle, in whichever process"

	// List.
	ruleList     = "List iterates over the records of one kind: those of one pool, or of all if pool is empty"
	ruleListOnce = "A record that exists during the whole iteration comes up exactly once, one that is created or " +
		"deleted meanwhile at most once, and each as it was at some moment during the iteration"
	ruleListBody  = "The body of the loop may call any method of the store, and may stop at any time"
	ruleListError = "An error is the last thing that the iteration yields"
	ruleDamaged   = "A record that is damaged is not passed over in silence. A store that can tell it from the others " +
		"yields these first, and then a DamagedError that names each one that is damaged"

	// Commit.
	ruleCommit = "Commit replaces the head of each change, if the stored one still has head.Revision, and " +
		"applies the writes of all changes: all of it or nothing"
	ruleDurable  = "It is durable when it returns"
	ruleReturned = "It returns the heads as they are now stored, in the order of the changes"
	ruleRevision = "Every record that one commit writes gets the same revision"
	ruleNoHead   = "A head.Revision of 0 means that no head may exist yet under head.Key"
	ruleRising   = "The new revision is greater than every revision that any of the keys has ever had, also " +
		"before it was deleted and created again"
	ruleDeleteHead = "To delete a head, the writes of its change contain a Delete of head.Key, and the head " +
		"returned has the revision of the commit"
	ruleDeleteMissing = "Deleting what does not exist is not an error"
	ruleValid         = "There is at least one change. No two of all the heads and writes may be under one key, except " +
		"for the Delete of a head in its own change, and every record must be valid: otherwise the error wraps ErrInvalid, " +
		"before anything is changed"
	ruleFailed   = "Commit fails, and has then changed nothing"
	ruleConflict = "a ConflictError about one of the heads that are not at head.Revision (checked before " +
		"the creates)"
	ruleConflictCurrent = "Current is the head as it is stored now, so that a caller can plan again without reading. If " +
		"there is no head, its Revision is 0 and of its fields only the Key is set"
	ruleExists        = "an ExistsError if the key of a Create exists"
	ruleExistsRecords = "Records are the records that stand in the way, as they are stored: all of them if the backend " +
		"can tell, at least one in any case"
	ruleTooLarge = "a TooLargeError if the backend cannot take so much in one commit"
	ruleRefused  = "any other error if the backend refused"
	ruleUnknown  = "this alone means that it may have, or may yet"

	// Writes and records.
	rulePut      = "Put writes a record, whether or not its key exists"
	ruleDelete   = "Delete removes the record under the key, if there is one. Only the record's key is used"
	ruleKeys     = "any character may occur in any field (slashes, quotes, line breaks), and a store keeps it as it is"
	ruleKeyEqual = "Two keys are equal if their three fields are"
	ruleKind     = "A kind that a driver does not know must be kept too"
	ruleExistent = "It is at least 1 for a record that exists. It is ignored in a Write"
	rulePrefixes = "Prefixes are the addresses that the record is about, in the order in which they were asked for"
	ruleTimes    = "are cut (not rounded) to the microsecond and come back in UTC. The zero time means that there is " +
		"none, and comes back as the zero time"
	ruleData = "A store gives back an equal JSON value, with numbers to the last digit and strings to the last character"

	// Turn.
	ruleTurn = "Turn waits for the caller's turn to replace the heads under the keys, and reads them. It is for callers " +
		"that others have overtaken: of many that commit to one head, each gets through in its turn, whatever the others do"
	ruleTurnHeads = "Heads returns the heads as they are stored when the turn begins, in the order of the keys that " +
		"Turn was given. A head that does not exist has revision 0, and of its fields only the key is set"
	ruleTurnOrder = "At each key the turns come one after the other, in the order of the calls of all handles in all " +
		"processes, as nearly as the backend can tell"
	ruleTurnLong = "A turn that lasts longer than MaxTurn, such as that of a process that was stopped or killed, holds " +
		"others up no longer than twice that"
	ruleTurnGuard  = "A turn guards nothing: a commit in it checks the revisions as any commit does"
	ruleTurnBeside = "callers that commit without one again and again must not keep those from committing that have one"
	ruleTurnKeys   = "There is at least one key, and none is there twice: otherwise the error wraps ErrInvalid"
	ruleTurnPlace  = "If ctx ends while the call waits, the error wraps the context's, and the place is lost"
	ruleTurnCommit = "The turns that changes have, see Change, end with the commit, whatever comes of it. A turn of " +
		"another store, or one that has ended, does not matter"
	ruleTurnEnd = "End ends the turn. It does nothing if the turn has ended"

	// Join.
	ruleJoinTurn = "Join is Store.Turn at one head, for a caller that leaves an ask"
	ruleJoin     = "It returns when the caller has its turn, or when another turn's commit has answered the ask"
	ruleJoinOnce = "An ask is answered at most once, and only while its caller waits, or its process has died or was " +
		"stopped less than a few seconds ago"
	ruleJoinEmpty = "An empty ask is none"
	ruleJoinLeft  = "If ctx ends, the ask is withdrawn, and the error wraps the context's; unless it has been answered " +
		"by then, which is no error"
	ruleJoinErrors = "Errors: those of Turn, and ErrInvalid for an ask of more than MaxAskBytes"
	ruleAsks       = "Asks returns the asks of those that wait behind this turn, the earliest first"
	ruleAnswer     = "The answer is given by the commit that has this turn in its Change, if that succeeds"
	ruleAnswerLeft = "If a caller that is to be answered has left by then, the commit fails with a ConflictError, also " +
		"though the head is as it was"
	ruleAnswered = "Answered returns the answer that another turn's commit has given to the ask of this one, and the " +
		"revision of that commit; nil if there is none"
	ruleAnsweredEnd   = "this turn has ended then if there is an answer, and has no Heads"
	ruleAnsweredAgain = "It is called again when this turn has ended in any way but by a commit that succeeded"

	// GetAll.
	ruleGetAll        = "GetAll returns the records under the keys, in the order of the keys, each as Store.Get would"
	ruleGetAllMissing = "One that does not exist has revision 0, and of its fields only the key is set"
	ruleGetAllTwice   = "A key may be there twice"

	// All methods.
	ruleBytes = "a store keeps no reference to what it is given, and what it returns is the caller's; changing " +
		"either changes nothing in the store"
	ruleClosed     = "each method returns an error that wraps ErrClosed after Close"
	ruleContext    = "A method whose context has already ended returns an error that wraps the context's, and does nothing"
	ruleInvalidKey = "A key, kind or pool that breaks the rules of Key gives an error that wraps ErrInvalid"
	ruleClose      = "Close releases what the handle holds, and is idempotent. Records stay where they are"

	// Find.
	ruleFind = "Find returns the record of KindAllocation in pool with the longest prefix that contains addr (of " +
		"several with that prefix, any), or an error that wraps ErrNotFound"
	ruleFindZero = "The zero Addr and 4in6 addresses are in no prefix; a zone is ignored"
	ruleFresh    = "It is as fresh as Get"

	// Watch.
	ruleWatch = "Watch returns as soon as the record under key is not at revision: at once if it is another " +
		"already, else when it is replaced or deleted"
	ruleWatchReturned = "It returns the record as it is then, or an error that wraps ErrNotFound if it has been " +
		"deleted. A revision of 0 waits for a record that does not exist yet"
	ruleWatchContext = "It waits until ctx ends, and then returns an error that wraps the context's"
	ruleWatchOthers  = "While it waits it costs the backend next to nothing, and the handle's other methods are " +
		"not held up"
	ruleWatchClose = "Close ends it, with ErrClosed"

	// ByExpiry.
	ruleExpiry = "ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest " +
		"first; those with the same time come in any order"
	ruleExpiryFresh = "It is as fresh as List, and has the same rules; a record whose Expires changes during the " +
		"iteration counts as deleted and created"
)
