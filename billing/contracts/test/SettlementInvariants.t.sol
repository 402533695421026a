// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Intercoin} from "../src/Intercoin.sol";
import {Settlement} from "../src/Settlement.sol";
import {Scene} from "./Scene.sol";
import {Test} from "./Test.sol";
import {Trees} from "./Trees.sol";

/// @dev Does anything in any order, with an operator who lies about every total and floods the ring.
contract SettlementHandler is Test, Trees {
    address internal constant OPERATOR = address(0xA1);
    address internal constant GUARDIAN = address(0xA2);
    address internal constant HOLDER = address(0xB1);

    Intercoin internal immutable token;
    Settlement internal immutable settlement;
    address[2] internal _owners = [address(0xC1), address(0xC2)];

    mapping(uint256 epoch => Settlement.Epoch) internal _epochs;
    mapping(uint256 epoch => uint256[2]) internal _earned;
    mapping(uint256 epoch => bool) internal _vetoed;
    uint256[2] internal _paidBefore;

    uint256 public donated;
    uint256 public highestAnnounced; // of the epochs that became claimable
    bool public paidFell;
    uint256 public claims;

    constructor(Intercoin token_, Settlement settlement_) {
        token = token_;
        settlement = settlement_;
    }

    function deposit(uint256 amount) external {
        amount = within(amount, 1, token.balanceOf(HOLDER) / 10 + 1);
        if (amount > token.balanceOf(HOLDER)) return;
        vm.startPrank(HOLDER);
        token.approve(address(settlement), amount);
        settlement.deposit(bytes32(amount), amount);
        vm.stopPrank();
    }

    function donate(uint256 amount) external {
        amount = within(amount, 0, token.balanceOf(HOLDER) / 10);
        donated += amount;
        vm.prank(HOLDER);
        vm.assertTrue(token.transfer(address(settlement), amount));
    }

    /// @dev Leaves up to everything that was ever deposited for each, and any total that the contract takes.
    function settle(uint256 first, uint256 second, uint256 announced) public {
        uint256 deposited = settlement.totalDeposited();
        uint64 number = settlement.nextEpoch();
        _earned[number] = [within(first, 0, deposited), within(second, 0, deposited)];
        announced = announced % 2 == 0 ? deposited : within(announced, 0, deposited);
        Settlement.Epoch memory epoch = Settlement.Epoch(
            number,
            uint64(vm.getBlockTimestamp()) + settlement.claimDelay(),
            pair(_leaf(number, 0), _leaf(number, 1)),
            bytes32(first),
            uint96(announced) // forge-lint: disable-line(unsafe-typecast)
        );
        uint128[5] memory meters;
        vm.prank(OPERATOR);
        try settlement.settle(
            number, epoch.payoutRoot, epoch.usageRoot, Settlement.Totals(epoch.cumulative, 2, 0, meters)
        ) {
            _epochs[number] = epoch;
        } catch (bytes memory reason) {
            vm.assertTrue(bytes4(reason) == Settlement.SettlementTooManyPending.selector);
        }
    }

    function flood(uint256 epochs, uint256 seed) external {
        epochs = within(epochs, 1, 40);
        for (uint256 i = 0; i < epochs; ++i) {
            settle(seed, seed >> 8, seed >> 16);
        }
    }

    function veto(uint256 back) external {
        uint64 next = settlement.nextEpoch();
        uint64 epoch = uint64(within(back, 0, 8)); // forge-lint: disable-line(unsafe-typecast)
        if (epoch >= next - 1) return;
        epoch = next - 1 - epoch;
        vm.prank(GUARDIAN);
        try settlement.veto(epoch) {
            for (uint256 later = epoch; later < next; ++later) {
                _vetoed[later] = true;
            }
        } catch {}
    }

    function claim(uint256 back, uint256 which) external {
        (uint256 number, bool any) = _pick(back);
        if (!any) return;
        which = which % 2;
        bytes32[] memory proof = proofOf(_leaf(number, 1 - which));
        try settlement.claim(_epochs[number], _owners[which], _earned[number][which], proof) {
            ++claims;
            _announce(number);
        } catch {}
        _watch();
    }

    function claimMany(uint256 back) external {
        (uint256 number, bool any) = _pick(back);
        if (!any) return;
        Settlement.Claimant[] memory both = new Settlement.Claimant[](2);
        for (uint256 i = 0; i < 2; ++i) {
            both[i] = Settlement.Claimant(_owners[i], _earned[number][i], proofOf(_leaf(number, 1 - i)));
        }
        try settlement.claimMany(_epochs[number], both) {
            ++claims;
            _announce(number);
        } catch {}
        _watch();
    }

    function wait(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + within(time, 1, 2 days));
    }

    /// @dev The newest epoch that is claimable; 0 for none.
    function newestClaimable() external view returns (uint64) {
        for (uint64 number = settlement.nextEpoch() - 1; number > 0; --number) {
            if (!_vetoed[number] && _epochs[number].claimableAt <= vm.getBlockTimestamp()) {
                return number;
            }
        }
        return 0;
    }

    function epochOf(uint256 number) external view returns (Settlement.Epoch memory) {
        return _epochs[number];
    }

    function _announce(uint256 number) private {
        vm.assertTrue(!_vetoed[number] && _epochs[number].claimableAt <= vm.getBlockTimestamp());
        if (_epochs[number].cumulative > highestAnnounced) highestAnnounced = _epochs[number].cumulative;
    }

    function _watch() private {
        for (uint256 i = 0; i < 2; ++i) {
            uint256 paid = settlement.paid(_owners[i]);
            if (paid < _paidBefore[i]) paidFell = true;
            _paidBefore[i] = paid;
        }
    }

    function _pick(uint256 back) private view returns (uint256 number, bool any) {
        uint256 last = settlement.nextEpoch() - 1;
        if (last == 0) return (0, false);
        return (last - within(back, 0, last - 1), true);
    }

    function _leaf(uint256 number, uint256 which) private view returns (bytes32) {
        return leaf(_owners[which], _earned[number][which]);
    }
}

contract SettlementInvariantsTest is Scene {
    SettlementHandler internal handler;

    function setUp() public override {
        super.setUp();
        handler = new SettlementHandler(token, settlement);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev One function, so that the states are walked through once.
    function invariant_MoneyIsSafeWhateverTheOperatorDoes() public view {
        uint256 paid = settlement.totalPaid();
        vm.assertEq(token.totalSupply(), 25_000_000 * 10 ** 9);
        // paid ≤ announced ≤ deposited
        vm.assertLe(paid, settlement.totalAnnounced());
        vm.assertEq(settlement.totalAnnounced(), handler.highestAnnounced());
        vm.assertLe(settlement.totalAnnounced(), settlement.totalDeposited());
        // solvent, to the unit
        uint256 held = token.balanceOf(address(settlement));
        vm.assertEq(held, settlement.totalDeposited() - paid + handler.donated());
        // totals are the sums of their parts, and paid amounts only grow
        vm.assertEq(paid, settlement.paid(OWNER) + settlement.paid(OTHER_OWNER));
        vm.assertEq(paid, token.balanceOf(OWNER) + token.balanceOf(OTHER_OWNER));
        vm.assertFalse(handler.paidFell());
    }

    function invariant_TheNewestClaimableEpochCanAlwaysBeShown() public view {
        uint64 newest = handler.newestClaimable();
        if (newest == 0) return;
        bytes32 wanted = settlement.commitmentOf(handler.epochOf(newest));
        (bytes32 kept,,) = settlement.commitment(newest);
        vm.assertTrue(kept == wanted || settlement.anchor() == wanted);
    }
}
