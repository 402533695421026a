// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {
    IAccessControlDefaultAdminRules as IAdmin
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {Settlement} from "../src/Settlement.sol";
import {Market} from "./Market.sol";

/// @dev The admin of Settlement and TokenSale is a timelock: everybody sees a change days before it happens.
contract AdminTest is Market {
    function _schedule(address target, bytes memory call_) private {
        vm.prank(PROPOSER);
        timelock.schedule(target, 0, call_, 0, 0, 2 days);
    }

    function _execute(address target, bytes memory call_) private {
        vm.prank(PROPOSER);
        timelock.execute(target, 0, call_, 0, 0);
    }

    function test_AnOperatorIsReplacedAfterTheDelayAndNotBefore() public {
        bytes32 role = settlement.OPERATOR_ROLE();
        bytes memory grant = abi.encodeCall(IAccessControl.grantRole, (role, STRANGER));
        _schedule(address(settlement), grant);
        pass(2 days - 1);
        bytes32 id = timelock.hashOperation(address(settlement), 0, grant, 0, 0);
        refuses(
            abi.encodeWithSelector(
                TimelockController.TimelockUnexpectedOperationState.selector,
                id,
                bytes32(1 << uint8(TimelockController.OperationState.Ready))
            )
        );
        _execute(address(settlement), grant);
        pass(1);
        _execute(address(settlement), grant);
        vm.assertTrue(settlement.hasRole(role, STRANGER));
    }

    function test_TheDelayCannotBeShortenedInTheSchedule() public {
        refuses(abi.encodeWithSelector(TimelockController.TimelockInsufficientDelay.selector, 2 days - 1, 2 days));
        vm.prank(PROPOSER);
        timelock.schedule(address(sale), 0, abi.encodeCall(sale.setTreasury, (BUYER)), 0, 0, 2 days - 1);
    }

    function test_OnlyTheProposerSchedulesAndNobodyIsAdminOfTheTimelockButItself() public {
        bytes32 proposer = timelock.PROPOSER_ROLE();
        refuses(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, proposer));
        vm.prank(STRANGER);
        timelock.schedule(address(sale), 0, "", 0, 0, 2 days);
        refuses(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, PROPOSER, timelock.DEFAULT_ADMIN_ROLE()
            )
        );
        vm.prank(PROPOSER);
        timelock.grantRole(proposer, STRANGER);
    }

    function test_ATreasuryIsChangedThroughTheTimelock() public {
        bytes memory call_ = abi.encodeCall(sale.setTreasury, (BUYER));
        _schedule(address(sale), call_);
        pass(2 days);
        _execute(address(sale), call_);
        vm.assertEq(sale.treasury(), BUYER);
    }

    function test_TheAdminIsHandedOverInTwoStepsAndThreeDays() public {
        vm.prank(address(timelock));
        settlement.beginDefaultAdminTransfer(STRANGER);
        refuses(
            abi.encodeWithSelector(
                IAdmin.AccessControlEnforcedDefaultAdminDelay.selector, vm.getBlockTimestamp() + 3 days
            )
        );
        vm.prank(STRANGER);
        settlement.acceptDefaultAdminTransfer();
        pass(3 days + 1);
        vm.prank(STRANGER);
        settlement.acceptDefaultAdminTransfer();
        vm.assertEq(settlement.defaultAdmin(), STRANGER);
    }

    function test_ThereIsOneAdmin() public {
        AccessControl[2] memory both = [AccessControl(settlement), AccessControl(sale)];
        for (uint256 i = 0; i < both.length; ++i) {
            refuses(abi.encodeWithSelector(IAdmin.AccessControlEnforcedDefaultAdminRules.selector));
            vm.prank(address(timelock));
            both[i].grantRole(0, STRANGER);
        }
    }

    function test_NobodyCannotBeAdmin() public {
        refuses(abi.encodeWithSelector(IAdmin.AccessControlInvalidDefaultAdmin.selector, address(0)));
        new Settlement(ntc, DELAY, address(0), OPERATOR, GUARDIAN);
    }
}
