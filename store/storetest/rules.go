package storetest

// The rules of the contract that the suite quotes, word for word from the comments of package store.
const (
	// Get.
	ruleGet    = "Get returns the record under key, or an error that wraps ErrNotFound"
	ruleLinear = "It sees every commit that returned before Get was called, through any handle in any process"

	// List.
	ruleList     = "List iterates over the records of one kind in one pool, or in all pools if pool is empty"
	ruleListOnce = "It yields a record that exists during the whole iteration exactly once, and a record that is " +
		"created or deleted meanwhile at most once, each as it was at some moment during the iteration"
	ruleListBody  = "The body of the loop may call any method of the store, and may stop at any time"
	ruleListError = "An error is the last thing that the iteration yields"
	ruleDamaged   = "List does not skip damaged records silently. A store that can tell them from the others yields the " +
		"others first, and then a DamagedError that names each damaged record"

	// Commit.
	ruleCommit = "Commit replaces the head of each change if the stored head is still at head.Revision, and applies the " +
		"writes of all changes. It does all of this or nothing"
	ruleDurable  = "The commit is durable when Commit returns"
	ruleReturned = "The result is the heads as stored, in the order of the changes"
	ruleRevision = "All records that one commit writes get the same revision"
	ruleNoHead   = "A head.Revision of 0 means that there must be no record under head.Key yet"
	ruleRising   = "The new revision is greater than every revision that any of the keys has ever had, including " +
		"those before it was deleted and created again"
	ruleDeleteHead = "To delete a head, put a Delete of head.Key into the writes of its change; the returned head then " +
		"has the revision of the commit"
	ruleDeleteMissing = "Deleting a record that does not exist is not an error"
	ruleValid         = "There must be at least one change, every record must be valid, and no two of the heads and " +
		"writes may have the same key, except a head and its Delete in the same change. Otherwise the error wraps " +
		"ErrInvalid, and nothing is changed"
	ruleFailed   = "Commit fails, without changing anything"
	ruleConflict = "a ConflictError for one of the heads that are not at head.Revision; this is checked before the " +
		"creates"
	ruleConflictCurrent = "Current is the head as it is now stored, so that the caller can plan again without a read. " +
		"If there is no head, Current has revision 0 and only its Key is set"
	ruleExists        = "an ExistsError if the key of a Create exists"
	ruleExistsRecords = "Records are the existing records, as stored: all of them if the backend can tell, and always " +
		"at least one"
	ruleTooLarge = "a TooLargeError if the backend cannot take so much in one commit"
	ruleRefused  = "any other error if the backend refused the commit"
	ruleUnknown  = "Only an error that wraps ErrUnknown leaves open whether the commit took effect, or may yet do so"

	// Writes and records.
	rulePut    = "Put writes a record, whether or not its key exists"
	ruleDelete = "Delete removes the record under the key, if there is one. Only the record's key is used"
	ruleKeys   = "Any other character may occur in any field (slashes, quotes, line breaks), and a store keeps it as " +
		"it is"
	ruleKeyEqual = "Two keys are equal if their fields are"
	ruleKind     = "A driver must also keep kinds that it does not know"
	ruleExistent = "It is at least 1 for a record that exists. A Write ignores it"
	rulePrefixes = "Prefixes are the addresses that the record is about, in the order in which they were requested"
	ruleTimes    = "A store cuts them to the microsecond, without rounding, and returns them in UTC. The zero time " +
		"means that there is none, and is returned as the zero time"
	ruleData = "A store returns an equal JSON value, with numbers to the last digit and strings to the last character"

	// Turn.
	ruleTurn = "Turn waits for the caller's turn to replace the heads under the keys, and reads them. It is for callers " +
		"whose commits have met conflicts: of many callers that commit to one head, each gets through in its turn, " +
		"whatever the others do"
	ruleTurnHeads = "Heads returns the heads as stored when the turn began, in the order of the keys given to Turn. A " +
		"head that does not exist has revision 0, and only its key is set"
	ruleTurnOrder = "The turns at a key follow one another in the order of the calls, over all handles in all " +
		"processes, as nearly as the backend can tell"
	ruleTurnLong = "A turn that lasts longer than MaxTurn, because its process was stopped or killed, for example, " +
		"holds others up for at most twice that time"
	ruleTurnGuard  = "A turn is not a lock: a commit in a turn checks revisions as any commit does"
	ruleTurnBeside = "Callers that keep committing without a turn must not prevent the commits of callers that have one"
	ruleTurnKeys   = "There must be at least one key, and no key twice. Otherwise the error wraps ErrInvalid"
	ruleTurnPlace  = "If ctx ends while the call waits, the error wraps the context's, and the call loses its place"
	ruleTurnCommit = "A commit ends the turns of its changes, whether it succeeds or not; see Change. A turn of another " +
		"store, or one that has ended, is ignored"
	ruleTurnEnd = "End ends the turn. It does nothing if the turn has already ended"

	// Join.
	ruleJoinTurn = "Join is Store.Turn at one head, for a caller that leaves an ask"
	ruleJoin     = "It returns when the caller has its turn, or when another turn's commit has answered the ask"
	ruleJoinOnce = "An ask is answered at most once, and only while its caller waits, or at most a few seconds after " +
		"its process was stopped or has died"
	ruleJoinEmpty = "An empty ask means none"
	ruleJoinLeft  = "If ctx ends, the ask is withdrawn, and the error wraps the context's. If it has been answered by " +
		"then, Join returns without an error"
	ruleJoinErrors = "Errors: those of Turn; ErrInvalid for an ask of more than MaxAskBytes"
	ruleAsks       = "Asks returns the asks of the callers that wait behind this turn, the earliest first"
	ruleAnswer     = "The answer takes effect with the commit that has this turn in its Change"
	ruleAnswerLeft = "If a caller to be answered has left by then, the commit fails with a ConflictError, even if the " +
		"head has not changed"
	ruleAnswered = "Answered returns the answer that the commit of another turn has given to the ask of this turn, and " +
		"the revision of that commit; nil if there is no answer"
	ruleAnsweredEnd   = "if there is an answer, the turn has ended, and has no Heads"
	ruleAnsweredAgain = "Call it again when the turn has ended without a commit that succeeded"

	// GetAll.
	ruleGetAll        = "GetAll returns the records under the keys, in the order of the keys, each as Store.Get would"
	ruleGetAllMissing = "A record that does not exist has revision 0, and only its key is set"
	ruleGetAllTwice   = "A key may occur more than once"

	// All methods.
	ruleBytes = "A store keeps no reference to its arguments, and what it returns belongs to the caller; changing " +
		"either changes nothing in the store"
	ruleClosed     = "after Close, each method returns an error that wraps ErrClosed"
	ruleContext    = "A method whose context has already ended does nothing, and returns an error that wraps the context's"
	ruleInvalidKey = "A key, kind or pool that breaks the rules of Key gives an error that wraps ErrInvalid"
	ruleClose      = "Close releases the handle's resources. It is idempotent. Records stay in the store"

	// Find.
	ruleFind = "Find returns the record of KindAllocation in pool with the longest prefix that contains addr, or an " +
		"error that wraps ErrNotFound. If several records have that prefix, it returns any of them"
	ruleFindZero = "No prefix contains the zero Addr or a 4in6 address; a zone is ignored"
	ruleFresh    = "It is as fresh as Get"

	// Watch.
	ruleWatch         = "Watch waits until the record under key is no longer at revision"
	ruleWatchReturned = "and returns the record as it then is, or an error that wraps ErrNotFound if the record has " +
		"been deleted. It returns at once if the revision already differs. A revision of 0 waits for a record that does " +
		"not exist yet"
	ruleWatchContext = "If ctx ends first, the error wraps the context's"
	ruleWatchOthers  = "A waiting call costs the backend next to nothing, and does not hold up the handle's other methods"
	ruleWatchClose   = "Close ends it with ErrClosed"

	// ByLabel.
	ruleLabel       = "ByLabel iterates over the records that l describes"
	ruleLabelOrder  = "in an order of their names that is the store's own, and the same each time"
	ruleLabelDigits = "names of 16 digits come in the order of the numbers"
	ruleLabelAfter  = "After is the name of the record behind which the iteration begins, whether or not there is such " +
		"a record"
	ruleLabelFresh = "It follows the rules of Store.List, and is as fresh; a record whose labels change during the " +
		"iteration counts as deleted and created"
	ruleLabelInvalid = "Validate returns an error that wraps ErrInvalid if records of the kind are not found by label, " +
		"if no record can have the label, or if the pool or After breaks a rule of Key"
	ruleLabels = "Labels are names with values, by which ByLabel finds records of some kinds"

	// ByExpiry.
	ruleExpiry = "ByExpiry iterates over the records of one kind and pool whose Expires is not zero, the earliest " +
		"first; records with the same time come in any order"
	ruleExpiryFresh = "It follows the rules of List, and is as fresh; a record whose Expires changes during the " +
		"iteration counts as deleted and created"
)
