package store

import "context"

// CommitSeveral implements [SeveralCommitter]. All records get the same revision.
func (m *Memory) CommitSeveral(ctx context.Context, changes []Change) ([]Record, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	if err := ValidateSeveral(changes); err != nil {
		return nil, err
	}
	copies := make([]memoryChange, len(changes))
	for i := range changes {
		copies[i] = newMemoryChange(changes[i].Head, changes[i].Writes)
	}
	revision, err := m.shared.commitSeveral(copies)
	if err != nil {
		return nil, err
	}
	heads := make([]Record, len(copies))
	for i := range copies {
		heads[i] = copies[i].head.Canonical()
		heads[i].Revision = revision
	}
	return heads, nil
}

func (s *records) commitSeveral(changes []memoryChange) (revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		if err := s.admitHead(changes[i].head); err != nil {
			return 0, err
		}
	}
	var standing []Record
	for i := range changes {
		standing = s.standing(standing, changes[i].writes)
	}
	if standing != nil {
		return 0, &ExistsError{Records: standing}
	}
	s.revision++
	for i := range changes {
		s.apply(changes[i])
	}
	return s.revision, nil
}
