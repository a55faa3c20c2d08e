package output

import (
	"maps"
	"testing"

	"fieldpost/sensors/sim"
)

// newBoard makes the board of a test. TestOnExpanders runs tests again with others.
var newBoard = sim.New

// onExpanders are tests of the safety contract, written for lines of the machine. Those
// are left out that expect a released line to fall back to its pull, which a line of an
// expander does not.
var onExpanders = map[string]func(*testing.T){
	"TestActions":                              TestActions,
	"TestBankKeepsPace":                        TestBankKeepsPace,
	"TestBlockedLogDelaysNoLine":               TestBlockedLogDelaysNoLine,
	"TestChipVanishes":                         TestChipVanishes,
	"TestChipVanishesWhileRecording":           TestChipVanishesWhileRecording,
	"TestClockStepMovesNoTimer":                TestClockStepMovesNoTimer,
	"TestCloseMakesSafe":                       TestCloseMakesSafe,
	"TestEndsWithoutASafeLevel":                TestEndsWithoutASafeLevel,
	"TestEventsWithoutRun":                     TestEventsWithoutRun,
	"TestFailedOrderLeadsToSafe":               TestFailedOrderLeadsToSafe,
	"TestFailedOrderWithoutASafeLevel":         TestFailedOrderWithoutASafeLevel,
	"TestFaultChangesItsKind":                  TestFaultChangesItsKind,
	"TestForEnds":                              TestForEnds,
	"TestHandlesAreOfSafeLinesOnly":            TestHandlesAreOfSafeLinesOnly,
	"TestHungLine":                             TestHungLine,
	"TestHungOrderIsAFault":                    TestHungOrderIsAFault,
	"TestHungSystemdDelaysNoTimer":             TestHungSystemdDelaysNoTimer,
	"TestInitialKeepAgainstAnInterlock":        TestInitialKeepAgainstAnInterlock,
	"TestInitialLevelGivesWayToAnInterlock":    TestInitialLevelGivesWayToAnInterlock,
	"TestInitialLevelWaitsForMinOff":           TestInitialLevelWaitsForMinOff,
	"TestInitialLevelWithoutAClick":            TestInitialLevelWithoutAClick,
	"TestInterlock":                            TestInterlock,
	"TestInterlockAtTheStart":                  TestInterlockAtTheStart,
	"TestInterlockWithAHungLine":               TestInterlockWithAHungLine,
	"TestInterlockWithTheUnknown":              TestInterlockWithTheUnknown,
	"TestInterlockedInitialLevel":              TestInterlockedInitialLevel,
	"TestKeptLineAfterACrash":                  TestKeptLineAfterACrash,
	"TestKeptLineIsStoredFromTheStart":         TestKeptLineIsStoredFromTheStart,
	"TestLastLevelOnABadDisk":                  TestLastLevelOnABadDisk,
	"TestLastLevelUnknownWithSafeKeep":         TestLastLevelUnknownWithSafeKeep,
	"TestLateLineIsKeptAtOnce":                 TestLateLineIsKeptAtOnce,
	"TestLateLineIsRecordedBeforeItsRequest":   TestLateLineIsRecordedBeforeItsRequest,
	"TestLineComesLater":                       TestLineComesLater,
	"TestLineFoundLaterIsRecordedFirst":        TestLineFoundLaterIsRecordedFirst,
	"TestLineVanishesWhileAnOrderWaits":        TestLineVanishesWhileAnOrderWaits,
	"TestLinkLost":                             TestLinkLost,
	"TestLinkNeverUp":                          TestLinkNeverUp,
	"TestMakeSafe":                             TestMakeSafe,
	"TestMakeSafeGoesOn":                       TestMakeSafeGoesOn,
	"TestMaxOn":                                TestMaxOn,
	"TestMinimumTimes":                         TestMinimumTimes,
	"TestOrderExpiresWhileItWaits":             TestOrderExpiresWhileItWaits,
	"TestOrderThatWaitsFreesItsQueue":          TestOrderThatWaitsFreesItsQueue,
	"TestOrdersAtOnce":                         TestOrdersAtOnce,
	"TestPanicInSafe":                          TestPanicInSafe,
	"TestPulse":                                TestPulse,
	"TestReconfigureAddsWhatIsBusyLater":       TestReconfigureAddsWhatIsBusyLater,
	"TestReconfigureAgainWhileALineHangs":      TestReconfigureAgainWhileALineHangs,
	"TestReconfigureAndStop":                   TestReconfigureAndStop,
	"TestReconfigureAnswersOrders":             TestReconfigureAnswersOrders,
	"TestReconfigureBounds":                    TestReconfigureBounds,
	"TestReconfigureInterlocks":                TestReconfigureInterlocks,
	"TestReconfigureKeepsTheRecordRight":       TestReconfigureKeepsTheRecordRight,
	"TestReconfigureOfAHeldLine":               TestReconfigureOfAHeldLine,
	"TestReconfigureReleasesABrokenLine":       TestReconfigureReleasesABrokenLine,
	"TestReconfigureRestoresLastLevel":         TestReconfigureRestoresLastLevel,
	"TestReconfigureWhileAnOrderWaitsForMinOn": TestReconfigureWhileAnOrderWaitsForMinOn,
	"TestReconfigureWhileTheInitialLevelWaits": TestReconfigureWhileTheInitialLevelWaits,
	"TestReconfigureWithALineThatHangs":        TestReconfigureWithALineThatHangs,
	"TestReconfigureWithoutTheChip":            TestReconfigureWithoutTheChip,
	"TestRecordComesBack":                      TestRecordComesBack,
	"TestRefresh":                              TestRefresh,
	"TestRefreshEndsTheWaitForMinOn":           TestRefreshEndsTheWaitForMinOn,
	"TestRefreshFreesAnInterlock":              TestRefreshFreesAnInterlock,
	"TestRefreshIsInTheState":                  TestRefreshIsInTheState,
	"TestRefreshOfALineThatFails":              TestRefreshOfALineThatFails,
	"TestRefreshOverARestart":                  TestRefreshOverARestart,
	"TestRefreshWithOtherBounds":               TestRefreshWithOtherBounds,
	"TestRefusedOrders":                        TestRefusedOrders,
	"TestSafeKeep":                             TestSafeKeep,
	"TestSafeWhileTheRecordHangs":              TestSafeWhileTheRecordHangs,
	"TestTakeOver":                             TestTakeOver,
	"TestTakeOverDoesNotWaitForEver":           TestTakeOverDoesNotWaitForEver,
	"TestTakeOverGoesOn":                       TestTakeOverGoesOn,
	"TestTakeOverOnFirstStart":                 TestTakeOverOnFirstStart,
	"TestTakeOverUnconfigured":                 TestTakeOverUnconfigured,
	"TestTakeOverWaitsForTheStore":             TestTakeOverWaitsForTheStore,
	"TestTakeOverWithoutRelease":               TestTakeOverWithoutRelease,
	"TestTakeOverWithoutSystemd":               TestTakeOverWithoutSystemd,
	"TestTimerThatFailsIsTriedAgain":           TestTimerThatFailsIsTriedAgain,
	"TestUnwritableRecord":                     TestUnwritableRecord,
	"TestWhatOverridesMinOn":                   TestWhatOverridesMinOn,
}

// onDirectedExpanders are more of them, which expect a line that is not requested yet, or
// that is left to its pull, to be low. On a PCF8574 it is high.
var onDirectedExpanders = map[string]func(*testing.T){
	"TestInitialKeep":                   TestInitialKeep,
	"TestInitialMismatchLeadsToSafe":    TestInitialMismatchLeadsToSafe,
	"TestInitialOnWithSafeKeep":         TestInitialOnWithSafeKeep,
	"TestInterlockedOrdersAtOnce":       TestInterlockedOrdersAtOnce,
	"TestLastLevel":                     TestLastLevel,
	"TestLevelMismatch":                 TestLevelMismatch,
	"TestLineComesAfterLinkLost":        TestLineComesAfterLinkLost,
	"TestMinOffAfterAFailedAttempt":     TestMinOffAfterAFailedAttempt,
	"TestMinimumTimesOfOtherSafeLevels": TestMinimumTimesOfOtherSafeLevels,
	"TestPinNames":                      TestPinNames,
	"TestReconfigureOfAStoredLine":      TestReconfigureOfAStoredLine,
}

// What an output promises holds on every expander: these tests pass there too.
func TestOnExpanders(t *testing.T) {
	defer func() { newBoard = sim.New }()
	directed := maps.Clone(onExpanders)
	maps.Copy(directed, onDirectedExpanders)
	for name, c := range map[string]struct {
		kind  sim.ExpanderKind
		tests map[string]func(*testing.T)
	}{
		"MCP23017": {sim.MCP23017, directed},
		"TCA9555":  {sim.TCA9555, directed},
		"PCF8574":  {sim.PCF8574, onExpanders},
	} {
		newBoard = func() *sim.Board {
			b := sim.New()
			b.MoveLines("1-0020", c.kind)
			return b
		}
		for promise, test := range c.tests {
			t.Run(name+"/"+promise, test)
		}
	}
}
