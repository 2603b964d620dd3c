package storetest

import "testing"

// CaseNames returns the names of the cases of the suite.
func CaseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

// RunCase runs one case of the suite on a backend.
func RunCase(t testing.TB, name string, backend Backend) {
	for _, c := range cases() {
		if c.name == name {
			c.runOn(t, backend)
			return
		}
	}
	t.Fatalf("no case %q", name)
}

// Rules returns the rules that the suite quotes.
func Rules() []string {
	return []string{
		ruleGet, ruleLinear, ruleList, ruleListOnce, ruleListBody, ruleListError, ruleCommit, ruleDurable, ruleReturned,
		ruleNoHead, ruleRising, ruleDeleteHead, ruleDeleteMissing, ruleValid, ruleFailed, ruleConflict,
		ruleConflictCurrent, ruleExists, ruleExistsRecords, ruleTooLarge, ruleUnknown, rulePut, ruleDelete, ruleKeys,
		ruleKeyEqual, ruleKind, ruleRevision, rulePrefixes, ruleTimes, ruleData, ruleBytes, ruleClosed, ruleContext,
		ruleInvalidKey, ruleClose, ruleFind, ruleFindZero, ruleFresh, ruleExistent, ruleRefused, ruleWatch, ruleWatchReturned,
		ruleWatchContext, ruleWatchOthers, ruleWatchClose, ruleExpiry, ruleExpiryFresh,
		ruleDamaged, ruleTurn, ruleTurnHeads, ruleTurnOrder, ruleTurnLong, ruleTurnGuard, ruleTurnBeside, ruleTurnKeys,
		ruleTurnPlace, ruleTurnCommit, ruleTurnEnd, ruleJoinTurn, ruleJoin, ruleJoinOnce, ruleJoinEmpty, ruleJoinLeft,
		ruleJoinErrors, ruleAsks, ruleAnswer, ruleAnswerLeft, ruleAnswered, ruleAnsweredEnd, ruleAnsweredAgain, ruleGetAll,
		ruleGetAllMissing, ruleGetAllTwice,
	}
}
